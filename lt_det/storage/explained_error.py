"""Errors of files and disks, whenever they come: the text is all that a user needs."""

from __future__ import annotations


class ExplainedError(Exception):
    """Base of errors that end the command line with one line, in the middle of a training too."""


class DiskFullError(ExplainedError, OSError):
    """A file for which there was no space; the text has its path and what is free."""
