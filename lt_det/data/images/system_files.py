"""Files and folders that systems and tools leave among images, and that nobody means."""

from __future__ import annotations

#: Without those whose name begins with a dot.
NAMES = frozenset(
    {
        *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", "lost+found", "__pycache__"),
    }
)


def is_system_file(name: str) -> bool:
    """Return whether the name of a file or folder, without its path, is one of a system's."""
    return name.startswith(".") or name.lower() in NAMES
