"""Open foreign files for reading, regular files only: a pipe stops nothing."""

from __future__ import annotations

import os
import stat
from typing import IO, Any

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


def open_regular(
    path: str | os.PathLike[str], mode: str = "rb", *, own: bool = False, **options: Any
) -> IO[Any]:
    """Open a regular file for reading, and refuse all else at once.

    A named pipe would make ``open`` wait for ever, and a device never ends.

    Args:
        path: file.
        mode: "r" or "rb".
        own: for files that we wrote ourselves: refuse a link, and a file of another user, which
            somebody must have put there. Root's are taken.
        options: of ``open``.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no regular file, or with ``own`` not ours; names the path.
        OSError: if it cannot be read.
    """
    path = os.fspath(path)
    if own and os.path.islink(path):
        raise ValueError(f"{path} is a link: expected a file that was written here; delete it")
    extra = getattr(os, "O_NONBLOCK", 0) | (getattr(os, "O_NOFOLLOW", 0) if own else 0)

    def opener(name: str, flags: int) -> int:
        try:
            handle = os.open(name, flags | extra)
        except OSError:
            check_regular(name)  # a socket, say, cannot even be opened
            raise
        try:
            state = os.fstat(handle)
            _check_kind(name, state.st_mode, own=own)
            if own and not is_trusted_owner(state.st_uid):
                raise ValueError(f"{name} belongs to user {state.st_uid}, not to us; delete it")
        except BaseException:
            os.close(handle)
            raise
        return handle

    return open(path, mode, opener=opener, **options)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise if there is something at ``path`` that is no regular file, without opening it.

    Before "does not exist" is said of what is no file.

    Raises:
        ValueError: names path and kind.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    _check_kind(os.fspath(path), mode)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise unless ``path`` is a regular file, a link, or nothing: what a new file may replace.

    Raises:
        ValueError: names path and kind.
    """
    _check_if_there(path, links=True, advice="give another path")


def check_own(path: str | os.PathLike[str]) -> None:
    """Raise unless ``path`` is a regular file or nothing: what may be written to under its name.

    Raises:
        ValueError: names path and kind.
    """
    _check_if_there(path, links=False, advice="delete it")


def _check_if_there(path: str | os.PathLike[str], *, links: bool, advice: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not (links and stat.S_ISLNK(mode)):
        raise ValueError(
            f"{os.fspath(path)} is {_kind(mode)}: expected a regular file, or none yet, to write "
            f"to; {advice}"
        )


def is_trusted_owner(user: int) -> bool:
    """Return whether what a user owns may be trusted: our own and root's."""
    return not hasattr(os, "geteuid") or user in (os.geteuid(), 0)


def _check_kind(path: str, mode: int, *, own: bool = False) -> None:
    if not stat.S_ISREG(mode):
        advice = "; save what it gives to one first" if stat.S_ISFIFO(mode) and not own else ""
        raise ValueError(f"{path} is {_kind(mode)}: expected a regular file{advice}")


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "no file")
