"""Collect the moments of the logits over the training set, for the calibration LogN."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import nn
from tqdm import tqdm

from lt_det.config import default_keys
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.loading.build import build_test_loader
from lt_det.engine.loading.train_stream import seed_everything
from lt_det.engine.regions.tap import frozen_regions
from lt_det.engine.startup.config_checks import check_device, check_keys_are_there
from lt_det.engine.startup.datasets import register_datasets
from lt_det.engine.training_model import bind_class_stats
from lt_det.modeling.calibration.logn import LogitMoments
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.patching.from_config import patch_from_config
from lt_det.tasks import build_class_stats, build_task

#: Images of a detector in one forward.
_IMS_PER_FORWARD = 4


@torch.no_grad()
def collect_logit_moments(cfg: Any, *, max_images: int = 0) -> list[LogitMoments]:
    """Return the moments of each classifier of MODEL.WEIGHTS: one, or one a cascade stage.

    One pass over DATASETS.TRAIN. Of a detector the logits are those of the regions that its losses
    would get, foreground and background as it samples them, of images augmented as in training;
    of an image classifier those of the images without augmentation. The seed is SEED, or 0.

    Args:
        cfg: config.
        max_images: as many, the first of an even spread; 0 is all.

    Raises:
        ValueError: if there are no weights, or the model has no classifier that is known.
    """
    check_keys_are_there(cfg)
    check_device(cfg)
    register_datasets(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.LT_DET.POST_HOC = default_keys().POST_HOC  # of the logits as they were trained
    task = build_task(cfg)
    stats = build_class_stats(cfg)
    model = patch_from_config(cfg, build_model(cfg), defaults=default_keys())
    if not any(classification_heads(model)):
        raise ValueError(
            f"logit moments are of box heads and image classifiers, and {type(model).__name__} has "
            "neither: set LT_DET.PATCH True or MODEL.ROI_HEADS.NAME LongTailROIHeads"
        )
    load_evaluated_model(cfg, model, resume=False)
    bind_class_stats(model, stats, unit=cfg.LT_DET.CLASS_STATS.UNIT)
    seed_everything(max(cfg.SEED, 0), 0)
    if task.one_class_an_image:
        return [_of_images(cfg, model, max_images=max_images)]
    return _of_regions(cfg, model, max_images=max_images)


def _of_images(cfg: Any, model: Any, *, max_images: int) -> LogitMoments:
    model.eval()
    moments = None
    batches = (batch for name in cfg.DATASETS.TRAIN for batch in build_test_loader(cfg, name))
    seen = 0
    for batch in tqdm(batches, desc="logits", unit="batch", disable=None):
        logits = model.logits(model.images(batch))
        moments = moments or LogitMoments(logits.shape[1])
        moments.add(logits)
        seen += len(batch)
        if max_images and seen >= max_images:
            break
    if moments is None:
        raise ValueError(f"DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)} has no images")
    return moments


def _of_regions(cfg: Any, model: nn.Module, *, max_images: int) -> list[LogitMoments]:
    model = freeze_all_but_classifier(model).train()
    dicts = build_train_dicts(cfg)
    step = -(-len(dicts) // max_images) if max_images else 1
    mapper = build_task(cfg).build_mapper(cfg, is_train=True)
    samples = tqdm(
        (mapper(dicts[i]) for i in range(0, len(dicts), step)),
        total=len(range(0, len(dicts), step)),
        desc="logits",
        unit="img",
        disable=None,
    )
    moments: list[LogitMoments] = []
    for batch in _batches(samples):
        stages = frozen_regions(model, batch)
        moments = moments or [LogitMoments(stage.logits.shape[1]) for stage in stages]
        for one, stage in zip(moments, stages):
            one.add(stage.logits)
    return moments


def _batches(samples: Iterable[dict]) -> Iterator[list[dict]]:
    iterator = iter(samples)
    while batch := list(itertools.islice(iterator, _IMS_PER_FORWARD)):
        yield batch


def moments_record(cfg: Any, moments: list[LogitMoments]) -> dict[str, Any]:
    """Return what the file of LT_DET.POST_HOC.LOGN holds: the moments and where they are from."""
    return {
        "weights": os.path.abspath(cfg.MODEL.WEIGHTS),
        "training_sets": list(cfg.DATASETS.TRAIN),
        "stages": [one.to_dict() for one in moments],
    }
