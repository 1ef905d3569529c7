"""End the command line with one line, instead of a traceback, for errors of the user."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from lt_det.storage.explained_error import ExplainedError

#: Environment variable that asks for tracebacks.
DEBUG = "LT_DET_DEBUG"

_KINDS = (ValueError, KeyError, OSError, ImportError, NotImplementedError)


class UserError(RuntimeError):
    """Error in what the user gave; the text says what is wrong and what to do."""


def wants_traceback() -> bool:
    """Return whether ``LT_DET_DEBUG`` is set to anything but 0."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors of input in the block into :class:`UserError`.

    Those are values, keys, files and missing packages, found before a training begins. An error in
    the middle of a training keeps its traceback unless an image or a full disk is at fault; with
    ``LT_DET_DEBUG`` all do.

    Raises:
        UserError: also for one that a process started by the block died of.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = _text(error)
        is_late = getattr(error, "in_training", False) and not isinstance(error, ExplainedError)
        if text is None or wants_traceback() or is_late:
            raise
        raise UserError(text) from error


def _text(error: Exception) -> str | None:
    """Return what to tell the user, None for other errors than the user's."""
    if isinstance(error, KeyError) and " " not in str(error.args[0] if error.args else ""):
        return None  # a bare key is no message to a user
    if isinstance(error, ExplainedError):
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        # A loader process gives its traceback as text.
        found = re.findall(rf"^[\w.]*\b{type(error).__name__}: (.*)", str(error), re.M)
        return re.sub(r"^\[Errno \d+\] ", "", found[-1]) if found else str(error)
    if isinstance(error, _KINDS):
        # KeyError puts quotes around its text; an OSError of the system has a number first.
        text = str(error.args[0]) if len(error.args) == 1 else str(error)
        return " ".join(text.split()) or type(error).__name__
    # torch.multiprocessing gives the traceback of the process as text.
    found = re.findall(rf"^{__name__}\.UserError: (.*)", str(error), re.M)
    return found[-1] if found else None
