"""Logs without useless tracebacks: of lines that cannot be written, and of what needs none."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable

from lt_det.storage.atomic_write import is_full_disk
from lt_det.storage.explained_error import ExplainedError


def say_once(handlers: Iterable[logging.Handler]) -> None:
    """Make handlers say one line on stderr if their file cannot be written, and go on.

    The lines of a log are on the terminal too, and a training need not stop for them.

    Args:
        handlers: of loggers; those of the terminal stay as they are.
    """
    said: set[str] = set()
    for handler in handlers:
        stream = getattr(handler, "stream", None)
        name = getattr(stream, "name", None)
        if stream not in (sys.stdout, sys.stderr, None) and isinstance(name, str):
            usual = handler.handleError
            handler.handleError = _saying(name, said, usual)  # type: ignore[method-assign, assignment]


def keep_explained_errors_off_terminal(handlers: Iterable[logging.Handler]) -> None:
    """Write tracebacks of errors whose text is enough to files only; the command line ends with it.

    Threads that find a full disk write none.

    Args:
        handlers: of loggers.
    """
    for handler in handlers:
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            handler.addFilter(_is_unexplained)
    usual = threading.excepthook
    if getattr(usual, "__module__", None) != __name__:
        threading.excepthook = _saying_of_threads(usual)


def _saying_of_threads(
    usual: Callable[[threading.ExceptHookArgs], object],
) -> Callable[[threading.ExceptHookArgs], None]:
    def hook(arguments: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread: its training ends with the same error.
        if not is_full_disk(arguments.exc_value):
            usual(arguments)

    return hook


def _is_unexplained(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, ExplainedError) or is_full_disk(error))


def _saying(
    name: str, said: set[str], usual: Callable[[logging.LogRecord], None]
) -> Callable[[logging.LogRecord], None]:
    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            usual(record)
        elif name not in said:
            said.add(name)
            sys.stderr.write(
                f"{name} cannot be written ({error.strerror or error}): what it lacks is on the "
                "terminal only\n"
            )

    return handle
