"""Find the cache folder, and check that its content can be trusted."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path

from lt_det.storage.regular_file import is_trusted_owner

logger = logging.getLogger(__name__)

_warned: set[str] = set()


def default_cache_folder() -> Path:
    """Return ``$LT_DET_CACHE``, else ``$FVCORE_CACHE/lt_det``, else ``~/.cache/lt_det``.

    Nothing is made or looked at; a ``~`` whose folder is not known stays as it is.
    """
    if os.environ.get("LT_DET_CACHE"):
        return Path(os.path.expanduser(os.environ["LT_DET_CACHE"]))
    if os.environ.get("FVCORE_CACHE"):
        return Path(os.path.expanduser(os.environ["FVCORE_CACHE"])) / "lt_det"
    return Path(os.path.expanduser("~/.cache/lt_det"))


def usable_cache_folder(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the cache folder, made if there is none; or None, with one warning that says why.

    Args:
        folder: None is :func:`default_cache_folder`.
    """
    path = default_cache_folder() if folder is None else Path(os.path.expanduser(folder))
    reason = why_not_usable(path)
    if reason is None:
        return path
    warn_not_cached(path, reason)
    return None


def warn_not_cached(folder: Path, reason: object) -> None:
    """Warn once in a process that nothing is kept in a cache folder.

    Args:
        folder: the folder.
        reason: what is wrong with it.
    """
    if str(folder) not in _warned:
        _warned.add(str(folder))
        logger.warning(
            "Nothing could be cached in %s: %s. Set LT_DET_CACHE to a folder of your own; without "
            "one, annotation files are read anew at every start",
            folder,
            reason,
        )


def why_not_usable(folder: str | os.PathLike[str]) -> str | None:
    """Make a folder that is to hold what we trust later; return None, or what is wrong with it.

    What others can write could be planted. So a folder is refused that another user owns (root
    may), or that others may write: everybody, or a group that is more than the user alone. So is
    one below a folder in which everybody may rename what is not theirs.

    Args:
        folder: made, for its user to write only, if it does not exist.
    """
    path = os.fspath(folder)
    if path.startswith("~"):
        return f"there is no home directory for {path.split(os.sep)[0]!r}"
    open_parent = _open_parent(path)
    if open_parent is not None:
        return f"others may replace it in {open_parent} (chmod o-w {open_parent})"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
        state = os.stat(path)
    except OSError as error:
        # A file, or a link to nothing, in the place of a folder.
        is_other = error.errno in (errno.ENOTDIR, errno.EEXIST)
        return "it is no folder" if is_other else str(error)
    if not stat.S_ISDIR(state.st_mode):
        return "it is no folder"
    if not is_trusted_owner(state.st_uid):
        return f"it belongs to another user ({_user_name(state.st_uid)})"
    if state.st_mode & stat.S_IWOTH or (
        state.st_mode & stat.S_IWGRP and not _is_private_group(state.st_uid, state.st_gid)
    ):
        return f"others may write it (chmod go-w {path})"
    if not os.access(path, os.R_OK | os.X_OK):
        return "it cannot be read"
    return None


def _open_parent(path: str) -> Path | None:
    """Return a folder above in which everybody may rename everything, or None.

    Of the path as it is named, whose links could be replaced, and of where they lead. Sticky
    folders, such as /tmp, let only owners rename.
    """
    for place in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):
        for parent in place.parents:
            with contextlib.suppress(OSError):  # it is not there yet
                mode = os.stat(parent).st_mode
                if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                    return parent
    return None


def _is_private_group(user: int, group: int) -> bool:
    """Return whether a group is the one named after its user, with nobody else in it."""
    try:
        import grp
        import pwd

        entry, name = grp.getgrgid(group), pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


def _user_name(user: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return str(user)
