"""Files that a config trains and evaluates on, and what it does with them; nothing is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.images.datasets import HELD_OUT, under_datasets
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.tasks.registry import build_task

Masks = Literal["off", "polygon", "bitmask"]
#: Kinds of images to classify that are files of the user's, which can be looked at.
_LOOKED_AT = ("folder", "csv")


@dataclass(frozen=True)
class ConfiguredData:
    """Data of a config.

    Attributes:
        train: jsons, folders or csv files trained on.
        val: those evaluated on.
        image_roots: folder of the images of each json of ``train`` and then ``val``; empty for
            images to classify.
        splits: of each folder or csv likewise; empty for jsons.
        masks: what the training does with masks.
        repeat_threshold: of repeat factor sampling; 0 without.
        limits: most images of a rare, and of a common class.
        num_classes: that the config sets, or counts; 0 where it does not say.
        num_classes_key: config key of it.
        notes: data sets that cannot be looked at, in words.
    """

    train: list[str]
    val: list[str]
    image_roots: list[str]
    splits: list[str]
    masks: Masks
    repeat_threshold: float
    limits: tuple[int, int]
    num_classes: int
    num_classes_key: str
    notes: list[str]

    @property
    def is_images(self) -> bool:
        """Whether they are images to classify."""
        return bool(self.splits)


def data_of_config(config_file: str, opts: Sequence[str] = ()) -> ConfiguredData:
    """Return the data of a config.

    Args:
        config_file: as :func:`lt_det.engine.startup.setup.read_config` takes it.
        opts: KEY VALUE pairs.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if it cannot be read, or none of its training data are files.
        KeyError: for a key that does not exist.
    """
    cfg = read_config(config_file, opts)
    task = build_task(cfg)
    number = 0
    # Unset, it is counted; what is wrong with the data is found by whoever looks at them.
    with contextlib.suppress(ValueError, OSError, KeyError):
        number = build_task(load_config(config_file, opts)).configured_classes
    notes: list[str] = []
    train, val = (
        [one for name in names if (one := _files(cfg, name, notes)) is not None]
        for names in (task.training_sets, task.test_sets)
    )
    if not train and not val:
        raise ValueError(
            "DATASETS.TRAIN and DATASETS.TEST name no data set that can be looked at: "
            + ("; ".join(notes) or "they are empty")
        )
    both = train + val
    is_images = any(kind == "images" for kind, *_ in both)
    if is_images and any(kind == "json" for kind, *_ in both):
        raise ValueError("DATASETS.TRAIN and DATASETS.TEST mix jsons with images to classify")
    loader = cfg.DATALOADER
    repeats = loader.SAMPLER_TRAIN == "RepeatFactorTrainingSampler" and not is_images
    return ConfiguredData(
        train=[path for _, path, _ in train],
        val=[path for _, path, _ in val],
        image_roots=[] if is_images else [part for *_, part in both],
        splits=[part for *_, part in both] if is_images else [],
        masks=cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else "off",
        repeat_threshold=loader.REPEAT_THRESHOLD if repeats else 0.0,
        limits=(task.rare_max, task.common_max),
        num_classes=number,
        num_classes_key=task.num_classes_key,
        notes=notes,
    )


def _files(cfg: Any, name: str, notes: list[str]) -> tuple[str, str, str] | None:
    """Return kind, file and image folder or split of a data set; None after a note."""
    for entry in cfg.LT_DET.DATASETS:
        if entry and entry[0] == name:
            path, root = (*entry[1:3], "")[:2]
            return "json", os.path.expanduser(path), os.path.expanduser(root)
    for entry in cfg.LT_DET.CLASSIFICATION.DATASETS:
        if not entry or name not in (entry[0], f"{entry[0]}{HELD_OUT}"):
            continue
        if name != entry[0]:
            notes.append(f"{name} is held out of {entry[0]}")
            return None
        kind, path, split = (*entry[1:], "")[:3]
        if kind in _LOOKED_AT:
            return "images", under_datasets(path), split
        notes.append(f"{name} is of kind {kind}, which is not looked at")
        return None
    found = MetadataCatalog.get(name) if name in DatasetCatalog.list() else None
    if found is not None and found.get("json_file"):
        return "json", found.json_file, found.get("image_root", "")
    notes.append(
        f"{name} is registered with a reader of its own" if found is not None
        else f"{name} is not registered"
    )  # fmt: skip
    return None
