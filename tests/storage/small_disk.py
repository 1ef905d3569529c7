"""A file system of a chosen size, for code of this package in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_NOT_MOUNTED = 42
_SCRIPT = """mount -t tmpfs -o "$1" tmpfs "$2" || exit {number}
exec "$3" -c "$4"
"""


def on_small_disk(place: Path, options: str, code: str) -> str:
    """Return what code prints for which ``place`` is a file system of its own.

    In a name space of its own, so that nobody has to be root and nothing is left. Skips where
    that cannot be made.

    Args:
        place: folder, a Path of this name in the code too.
        options: of tmpfs, such as "size=1m" or "nr_inodes=3".
        code: Python.
    """
    code = f"import pathlib\nplace = pathlib.Path({str(place)!r})\n{code}"
    script = _SCRIPT.format(number=_NOT_MOUNTED)
    words = ["sh", "-c", script, "sh", options, str(place), sys.executable, code]
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if done.returncode == _NOT_MOUNTED or done.stderr.startswith("unshare:"):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr
    return done.stdout
