"""Build the samplers of training images, for detection and classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Sampler

from lt_det.config_errors import naming_keys
from lt_det.data.sampling.class_aware import ClassAwareSampler
from lt_det.data.sampling.instance_aware import (
    class_instance_counts,
    eirfs_class_logs,
    eirfs_image_weights,
    irfs_class_factors,
)
from lt_det.data.sampling.samplers import (
    DeferredSampler,
    WeightedImageSampler,
    class_balanced_image_weights,
    class_image_counts,
    classes_of_images,
    rarest_class_weights,
)
from lt_det.data.warn_once import warn_once
from lt_det.losses.class_weights import effective_number
from lt_det.tasks.deferral import Deferral
from lt_det.tasks.registry import build_class_stats

#: Values of LT_DET.SAMPLER.NAME, and what they draw a class (an image's rarest) in proportion to,
#: n being its number of images:
SAMPLERS = {
    "instance": "n: every image once an epoch",
    "class_balanced": "1",
    "square_root": "sqrt(n)",
    "repeat_factor": "n max(1, sqrt(t / f)), t being DATALOADER.REPEAT_THRESHOLD",
    "progressive": "from n in the first epoch to 1 in the last",
    "effective_number": "n / (1 - beta^n), beta being LT_DET.SAMPLER.BETA",
    "irfs": "n max(1, sqrt(t / sqrt(f f_box))), f_box being its share of the instances",
    "eirfs": "n exp(alpha sqrt(t / sqrt(f f_box))), alpha being LT_DET.SAMPLER.ALPHA",
    "eirfs_release": "as eirfs, with the frequencies of the release",
    "class_aware": "1, by turns",
}
_OF_DETECTRON2 = {
    "TrainingSampler": "instance",
    "RepeatFactorTrainingSampler": "repeat_factor",
    "ClassBalancedSampler": "class_balanced",
}


def build_train_sampler(cfg: Any, dicts: Sequence[dict], *, seed: int) -> Sampler:
    """Return the endless sampler of LT_DET.SAMPLER.NAME, or else of DATALOADER.SAMPLER_TRAIN.

    With LT_DET.DEFER.SAMPLER that one takes over in the first deferred iteration; a progressive
    sampler goes all its way in the iterations that it is used in.

    Sources: Kang et al., arXiv:1910.09217, section 4.1 (class-balanced, square root, progressive);
    Gupta et al., arXiv:1908.03195 (repeat factors); Cui et al., arXiv:1901.05555 (effective
    number); of irfs, eirfs and class_aware in their files; deferred resampling: Cao et al.,
    arXiv:1906.07413. An image of several classes is drawn as the rarest of them.

    Raises:
        ValueError: if there is no sampler of that name.
    """
    name, later = _build_name(cfg), cfg.LT_DET.DEFER.SAMPLER
    max_iter, ims_per_batch = cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH
    if not later:
        return _build_named_sampler(cfg, name, dicts, seed=seed, draws=max_iter * ims_per_batch)
    _check_name(later, key="LT_DET.DEFER.SAMPLER")
    deferral = Deferral.from_config(cfg)
    if later == name:
        raise ValueError(
            f"LT_DET.DEFER.SAMPLER is {later!r}, which LT_DET.SAMPLER.NAME or DATALOADER."
            "SAMPLER_TRAIN already is: set another one"
        )
    start = deferral.start(lambda: build_class_stats(cfg).num_images)
    draws = start * ims_per_batch
    rest = max(max_iter - start, 0) * ims_per_batch
    return DeferredSampler(
        _build_named_sampler(cfg, name, dicts, seed=seed, draws=draws),
        # Not the seed of the first, nor that of meta batches, which is one more.
        _build_named_sampler(cfg, later, dicts, seed=seed + 2, draws=rest),
        num_before=draws // comm.get_world_size(),
    )


def _build_name(cfg: Any) -> str:
    name = cfg.LT_DET.SAMPLER.NAME
    if not name:
        name = _OF_DETECTRON2.get(cfg.DATALOADER.SAMPLER_TRAIN)
        if name is None:
            raise ValueError(
                f"DATALOADER.SAMPLER_TRAIN must be one of {sorted(_OF_DETECTRON2)}, got "
                f"{cfg.DATALOADER.SAMPLER_TRAIN!r}"
            )
    _check_name(name, key="LT_DET.SAMPLER.NAME")
    return name


def _check_name(name: str, *, key: str) -> None:
    if name not in SAMPLERS:
        raise ValueError(f"{key} must be '' or one of {sorted(SAMPLERS)}, got {name!r}")


def _build_named_sampler(
    cfg: Any, name: str, dicts: Sequence[dict], *, seed: int, draws: int
) -> Sampler:
    if name == "instance":
        return TrainingSampler(len(dicts), seed=seed)
    image_classes = classes_of_images(dicts)
    if name == "repeat_factor":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            [{"annotations": [{"category_id": c} for c in classes]} for classes in image_classes],
            cfg.DATALOADER.REPEAT_THRESHOLD,
            # Detectron2 v0.6 always takes the root, and has no key for it.
            **({"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}),
        )
        _warn_if_none_is_repeated(cfg.DATALOADER.REPEAT_THRESHOLD, factors, image_classes)
        return RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "class_balanced":
        return class_balanced_sampler(image_classes, seed=seed)
    if name == "class_aware":
        ranks = {"rank": comm.get_rank(), "world_size": comm.get_world_size()}
        return ClassAwareSampler(image_classes, seed=seed, **ranks)
    if name in ("irfs", "eirfs", "eirfs_release"):
        return _build_instance_aware(cfg, name, dicts, image_classes, seed=seed)
    num_classes = _num_classes(image_classes)
    counts = class_image_counts(image_classes, num_classes=num_classes)
    if name == "progressive":
        balanced = class_balanced_image_weights(image_classes, num_classes=num_classes)
        return _weighted((balanced > 0).astype(np.float64), balanced, draws=draws, seed=seed)
    if name == "square_root":
        class_weights = counts**-0.5
    else:
        tensor = torch.from_numpy(counts)
        class_weights = 1 / effective_number(tensor, beta=cfg.LT_DET.SAMPLER.BETA).numpy()
    return _weighted(rarest_class_weights(image_classes, class_weights), seed=seed)


def _build_instance_aware(
    cfg: Any, name: str, dicts: Sequence[dict], image_classes: list[list[int]], *, seed: int
) -> Sampler:
    num_classes = _num_classes(image_classes)
    counts = class_image_counts(image_classes, num_classes=num_classes)
    instances = class_instance_counts(dicts, num_classes=num_classes)
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD
    with naming_keys(threshold="DATALOADER.REPEAT_THRESHOLD", alpha="LT_DET.SAMPLER.ALPHA"):
        if name == "irfs":
            classes = irfs_class_factors(
                counts, instances, num_images=len(dicts), threshold=threshold
            )
            weights = np.maximum(rarest_class_weights(image_classes, classes), 1.0)
            factors = torch.from_numpy(weights).float()
            _warn_if_none_is_repeated(threshold, factors, image_classes)
            return RepeatFactorTrainingSampler(factors, seed=seed)
        logs = eirfs_class_logs(
            counts,
            instances,
            num_images=len(dicts),
            threshold=threshold,
            alpha=cfg.LT_DET.SAMPLER.ALPHA,
            as_released=name == "eirfs_release",
        )
    return _weighted(eirfs_image_weights(image_classes, logs), seed=seed)


def _warn_if_none_is_repeated(
    threshold: float, factors: torch.Tensor, image_classes: Sequence[Sequence[int]]
) -> None:
    if not len(factors) or float(factors.max()) > 1:
        return
    counts = class_image_counts(image_classes, num_classes=_num_classes(image_classes))
    there = sorted({c for classes in image_classes for c in classes})  # others count as 1
    rarest = float(counts[there].min()) / len(image_classes)
    warn_once(
        f"DATALOADER.REPEAT_THRESHOLD {threshold:g} repeats none of the "
        f"{len(image_classes)} images: their rarest class is in a share of {rarest:.3g}. Set it "
        "above that share, or LT_DET.SAMPLER.NAME instance to draw every image once an epoch"
    )


def class_balanced_sampler(image_classes: Sequence[Sequence[int]], *, seed: int) -> Sampler:
    """Return endless weighted draws of this rank, for images with the given class ids."""
    weights = class_balanced_image_weights(image_classes, num_classes=_num_classes(image_classes))
    return _weighted(weights, seed=seed)


def _num_classes(image_classes: Sequence[Sequence[int]]) -> int:
    return 1 + max((c for classes in image_classes for c in classes), default=0)


def _weighted(
    weights: np.ndarray, last: np.ndarray | None = None, *, seed: int, draws: int = 0
) -> Sampler:
    return WeightedImageSampler(
        weights,
        last_weights=last,
        draws=draws,
        seed=seed,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
