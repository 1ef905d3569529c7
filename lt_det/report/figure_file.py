"""Write figures, whole or not at all."""

from __future__ import annotations

import os
from typing import Any

from lt_det.storage.atomic_write import atomic_file


def save_figure(figure: Any, path: str | os.PathLike[str], *, dpi: int) -> None:
    """Write a matplotlib figure.

    Args:
        figure: a ``matplotlib.figure.Figure``.
        path: file; its ending decides the format, png without one. Missing folders are made.
        dpi: dots an inch.

    Raises:
        ValueError: for an ending that matplotlib does not know.
        OSError: if it cannot be written.
    """
    ending = os.path.splitext(os.fspath(path))[1][1:]
    with atomic_file(path, "wb") as file:
        figure.savefig(file, format=ending or "png", dpi=dpi)
