"""Masks of one json: which can be trained on, and with which of Detectron2's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lt_det.data.annotations.checks import is_crowd
from lt_det.data.annotations.mask_checks import mask_is_usable, mask_problem, polygon_is_valid
from lt_det.data.inspection.findings import Finding, Harm, of_annotations

#: What the training is to do with masks; "auto" if it is not known yet.
MaskUse = Literal["auto", "off", "polygon", "bitmask"]


def mask_findings(file: str, content: Mapping[str, Any], *, use: MaskUse) -> list[Finding]:
    """Return what is wrong with the masks of a json.

    Args:
        file: the json, for the findings.
        content: lists ``images`` and ``annotations`` of dicts.
        use: what the training is to do with them.
    """
    annotations = content["annotations"]
    masks = [one.get("segmentation") for one in annotations]
    is_rle = np.array([isinstance(mask, dict) and bool(mask) and mask_problem(mask) is None
                       for mask in masks], dtype=bool)  # fmt: skip
    # What is none at all, and what is malformed, is said where annotations are.
    none = np.array([not mask for mask in masks], dtype=bool)
    counted = np.array([not is_crowd(one) for one in annotations], dtype=bool)
    found = of_annotations(
        file, annotations, np.array([not mask_is_usable(mask) and mask_problem(mask) is None
                                     for mask in masks]),
        harm="warning", kind="polygon-too-short", show="segmentation",
        what="no polygon has three points (six numbers, an even count)",
        advice="training leaves the whole annotation out: correct or remove them",
    )  # fmt: skip
    found += of_annotations(
        file, annotations, np.array([_is_partly_short(mask) for mask in masks]),
        harm="warning", kind="polygon-part-too-short",
        what="some of the polygons have fewer than three points, or an odd count of numbers",
        advice="training leaves these polygons out",
    )  # fmt: skip
    if use != "off":
        found += _settings(file, annotations, none & counted, is_rle & counted, counted, use=use)
    return found


def _settings(
    file: str,
    annotations: Sequence[Mapping[str, Any]],
    none: np.ndarray,
    is_rle: np.ndarray,
    counted: np.ndarray,
    *,
    use: MaskUse,
) -> list[Finding]:
    if not counted.any():
        return []
    harm: Harm = "warning" if use == "auto" else "error"
    if none.sum() == counted.sum():
        return of_annotations(
            file, annotations, none, harm=harm, kind="boxes-only", what="boxes without masks",
            advice="train with MODEL.MASK_ON False",
        )  # fmt: skip
    found = of_annotations(
        file, annotations, none, harm="error", kind="masks-mixed",
        what=f"no mask ('segmentation' absent or empty), while {counted.sum() - none.sum()} have "
        "one",
        advice="training of masks stops there: draw them, or train with MODEL.MASK_ON False "
        "(then check with --masks off)",
    )  # fmt: skip
    if use != "bitmask":
        found += of_annotations(
            file, annotations, is_rle, harm=harm, kind="masks-encoded",
            what="the mask is run-length encoded",
            advice="train with INPUT.MASK_FORMAT bitmask (then check with --masks bitmask)",
        )  # fmt: skip
    return found


def _is_partly_short(mask: Any) -> bool:
    if not isinstance(mask, list) or mask_problem(mask) is not None:
        return False
    return mask_is_usable(mask) and not all(map(polygon_is_valid, mask))
