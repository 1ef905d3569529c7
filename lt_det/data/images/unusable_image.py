"""Errors of image files that cannot be used; the text says which, why, and what to do."""

from __future__ import annotations

from lt_det.storage.explained_error import ExplainedError


class UnusableImageError(ExplainedError, ValueError):
    """An image file of the user's that is broken, no image, or other than its data set says."""


class MissingImageError(UnusableImageError, FileNotFoundError):
    """An image file that is not there."""
