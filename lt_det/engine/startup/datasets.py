"""Register the data sets that a config describes."""

from __future__ import annotations

from typing import Any

from lt_det.config_errors import naming_keys
from lt_det.data.annotations.datasets import register_from_config
from lt_det.data.images.datasets import register_images_from_config


def register_datasets(cfg: Any) -> None:
    """Register LT_DET.DATASETS and LT_DET.CLASSIFICATION.DATASETS; what is, is left alone.

    Raises:
        ValueError: for an entry of another form, or a name that is taken by other files.
    """
    with naming_keys(entries="LT_DET.DATASETS"):
        register_from_config(cfg.LT_DET.DATASETS)
    images = cfg.LT_DET.CLASSIFICATION
    with naming_keys(
        entries="LT_DET.CLASSIFICATION.DATASETS",
        imbalance_factor="LT_DET.CLASSIFICATION.IMBALANCE_FACTOR",
        seed="LT_DET.CLASSIFICATION.SUBSET_SEED",
        held_out="LT_DET.CLASSIFICATION.HELD_OUT",
    ):
        register_images_from_config(
            images.DATASETS,
            long_tailed=(*cfg.DATASETS.TRAIN, *cfg.LT_DET.CLASS_STATS.DATASETS),
            imbalance_factor=images.IMBALANCE_FACTOR,
            seed=images.SUBSET_SEED,
            held_out=images.HELD_OUT,
        )
