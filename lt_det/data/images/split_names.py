"""Names of splits, in any spelling of their letters: which mean training, and which evaluation."""

from __future__ import annotations

from collections.abc import Collection

_TRAIN, _VAL = ("train", "training"), ("val", "valid", "validation", "test", "testing")
_SPLITS = {*_TRAIN, *_VAL}


def is_split(name: str, split: str) -> bool:
    """Return whether a cell names a split; "Train" is train."""
    return name == split or (name.lower() in _SPLITS and name.lower() == split.lower())


def are_splits(names: Collection[str]) -> bool:
    """Return whether all names, of folders, are those of splits; not so if there are none."""
    return bool(names) and {name.lower() for name in names} <= _SPLITS


def train_and_val(names: Collection[str]) -> tuple[str, str]:
    """Return the names, as they are spelled, of the splits to train and to evaluate on; or ""."""
    # Of "Train" and "train" the latter, which is sorted last.
    spelled = {name.lower(): name for name in sorted(names)}
    train = next((spelled[name] for name in _TRAIN if name in spelled), "")
    val = next((spelled[name] for name in _VAL if name in spelled), "")
    return (train, val) if train and val else ("", "")
