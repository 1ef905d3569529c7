"""Register a built demo set with Detectron2."""

from __future__ import annotations

import os

from demo.build import EmojiScenes


def register_emoji_scenes(
    root: str | os.PathLike[str], *, prefix: str = "emoji_scenes"
) -> tuple[str, str]:
    """Register the splits of a built set and return the names of train and validation.

    Calling it again with the same folder changes nothing.

    Args:
        root: folder of the set, :attr:`EmojiScenes.root`.
        prefix: the names are ``<prefix>_train`` and ``<prefix>_val``.

    Raises:
        FileNotFoundError: if there is no complete set in ``root``.
        ValueError: if another folder is registered under these names.
    """
    # Here and not above: building the set needs no Detectron2.
    from lt_det.data.annotations.datasets import register_lvis_format

    scenes = EmojiScenes.at(root)
    register_lvis_format(f"{prefix}_train", scenes.train_json, scenes.root)
    register_lvis_format(f"{prefix}_val", scenes.val_json, scenes.root)
    return f"{prefix}_train", f"{prefix}_val"
