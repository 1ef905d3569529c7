"""Check the numbers of a config against their bounds, one table for all keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_ONE_OR_MORE = (
    "SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD",
    "LT_DET.META.BANK_IMAGES", "LT_DET.REGION_CACHE.EPOCHS",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "MODEL.RPN.PRE_NMS_TOPK_TRAIN",
    "MODEL.RPN.PRE_NMS_TOPK_TEST", "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST",
)  # fmt: skip
# A side of 0 is Detectron2's word for images that keep their size.
_ZERO_OR_MORE = (
    "LT_DET.META.IMS_PER_BATCH", "LT_DET.EARLY_STOPPING", "LT_DET.REGION_CACHE.SEED",
    "DATALOADER.NUM_WORKERS", "INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "MODEL.RETINANET.NUM_CONVS",
)  # fmt: skip
_FINITE_ABOVE_ZERO = ("LT_DET.CLASSIFIER.SCALE", "LT_DET.META.LR", "MODEL.PIXEL_STD")
_FINITE = (
    "LT_DET.META.BANK_RENEWAL", "SOLVER.BASE_LR", "SOLVER.BASE_LR_END", "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_ITERS", "SOLVER.GAMMA", "DATALOADER.REPEAT_THRESHOLD",
    "MODEL.RPN.LOSS_WEIGHT", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "MODEL.RPN.SMOOTH_L1_BETA",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA",
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA", "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA",
)  # fmt: skip
_SHARES = (
    "MODEL.RPN.POSITIVE_FRACTION", "MODEL.RPN.NMS_THRESH", "MODEL.ROI_HEADS.POSITIVE_FRACTION",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.RETINANET.NMS_THRESH_TEST",
)  # fmt: skip
_SHARES_BETWEEN = ("MODEL.RETINANET.PRIOR_PROB",)
# Below 0 all scores pass, and the focal loss has no weights: Detectron2's own words for that.
_AT_MOST_ONE = (
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA",
)  # fmt: skip

_BOUNDS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (_ONE_OR_MORE, lambda v: v >= 1, "at least 1"),
    (_ZERO_OR_MORE, lambda v: v >= 0, "at least 0"),
    (_FINITE_ABOVE_ZERO, lambda v: 0 < v < math.inf, "a finite number above 0"),
    (_FINITE, lambda v: 0 <= v < math.inf, "a finite number of at least 0"),
    (_SHARES, lambda v: 0 <= v <= 1, "from 0 to 1"),
    (_SHARES_BETWEEN, lambda v: 0 < v < 1, "above 0 and below 1"),
    (_AT_MOST_ONE, lambda v: -math.inf < v <= 1, "a finite number of at most 1"),
    (("SOLVER.MOMENTUM",), lambda v: 0 <= v < 1, "at least 0 and below 1"),
)
_OF_TRAINING = ("SOLVER.", "LT_DET.META.")
_OF_CLIPPING = ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "SOLVER.CLIP_GRADIENTS.NORM_TYPE")


def check_bounds(cfg: Any, *, trains: bool = True) -> None:
    """Raise if a number of a config is out of its bounds; what Detectron2 documents is within.

    Keys that this Detectron2 has not, and those that are None, are passed over.

    Args:
        cfg: config.
        trains: False leaves out the keys of the solver and of the meta learner.

    Raises:
        ValueError: names the key, its bounds and what it is.
    """
    for keys, fits, expected in _BOUNDS:
        for key in keys:
            if trains or not key.startswith(_OF_TRAINING):
                _check(cfg, key, fits, expected)
    if trains and cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        for key in _OF_CLIPPING:
            _check(cfg, key, lambda v: v > 0, "above 0")
    # 0 keeps none. Of less Faster R-CNN keeps all, RetinaNet all but the last.
    most, key = cfg.TEST.DETECTIONS_PER_IMAGE, "TEST.DETECTIONS_PER_IMAGE"
    if most == 0:
        raise ValueError(f"{key} must be at least 1, or below 0 for all, got 0")
    if most < 0 and "RetinaNet" in cfg.MODEL.META_ARCHITECTURE:
        raise ValueError(f"{key} must be at least 1 for RetinaNet, got {most}")


def check_lvis_limit(cfg: Any, name: str) -> None:
    """Raise if detections are not limited, as LVIS's metric needs.

    Args:
        cfg: config.
        name: of DATASETS.TEST, evaluated with LVIS's metric.

    Raises:
        ValueError: names the key.
    """
    most = cfg.TEST.DETECTIONS_PER_IMAGE
    if most < 1:
        raise ValueError(
            "TEST.DETECTIONS_PER_IMAGE must be at least 1 for LVIS's metric, by which "
            f"DATASETS.TEST {name!r} is evaluated, got {most}: LVIS counts 300"
        )


def _check(cfg: Any, key: str, fits: Callable[[Any], bool], expected: str) -> None:
    value = _value(cfg, key)
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if all(number is None or fits(number) for number in numbers):
        return
    if numbers is value:
        raise ValueError(f"{key} must each be {expected}, got {list(value)}")
    raise ValueError(f"{key} must be {expected}, got {value}")


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        if part not in cfg:
            return None
        cfg = cfg[part]
    return cfg
