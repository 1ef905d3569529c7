"""LVIS average precision of every category, with the frequency groups of the training set.

Metric: Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195, as implemented by lvis-api. Differences, all about what that
implementation does not define:

* A metric that has nothing to average is nan; lvis-api gives -1, and Detectron2's LVISEvaluator
  multiplies that to -100. (Detectron2's COCOEvaluator gives nan.)
* No detections at all give 0, as detections that all miss do; lvis-api raises an error, and
  Detectron2's LVISEvaluator gives nan.
* Detections of an unknown category are an error; lvis-api drops them, which hides ids that are off
  by one.
* The annotation ids of the json play no role; lvis-api takes an object with id 0 for unfound.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.evaluation.detections import Detections, Records, as_detections
from lt_det.evaluation.lvis.backends import hotcoco_precision, lvis_api_precision
from lt_det.evaluation.lvis.columns import occurring
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth, read_ground_truth

logger = logging.getLogger(__name__)

IoUType = Literal["bbox", "segm"]
Backend = Literal["hotcoco", "lvis-api"]

BACKENDS: dict[str, Callable[..., np.ndarray]] = {
    "hotcoco": hotcoco_precision,
    "lvis-api": lvis_api_precision,
}
IOU_TYPES = ("bbox", "segm")
GROUPS: tuple[str, ...] = tuple(GROUP_NAMES)
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
# Rows of the IoU thresholds 0.5, 0.55, ..., 0.95.
_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True)
class CategoryAP:
    """Average precision of one category.

    Attributes:
        category_id: id in the json.
        name: its name in the json, or the id as text.
        group: "r", "c" or "f"; None if unknown.
        num_gt_instances: annotated objects in the evaluated split, those to ignore left out.
        num_gt_images: images of the evaluated split with such an object.
        ap: mean over IoU 0.5 to 0.95, in percent; nan if the split has no object of it.
        ap50: at IoU 0.5, likewise.
        ap75: at IoU 0.75, likewise.
    """

    category_id: int
    name: str
    group: str | None
    num_gt_instances: int
    num_gt_images: int
    ap: float
    ap50: float
    ap75: float


@dataclass(frozen=True)
class LVISAveragePrecision:
    """Result of :func:`lvis_average_precision`.

    Attributes:
        iou_type: "bbox" or "segm".
        max_dets: detections counted for each image.
        backend: implementation that made it.
        summary: AP, AP50, AP75, APs, APm, APl, APr, APc, APf in percent; nan if undefined.
        per_category: one entry a category of the json, by rising id.
        by_group: "r", "c" and "f" -> AP, AP50, AP75, APs, APm, APl of its categories.
    """

    iou_type: str
    max_dets: int
    backend: str
    summary: dict[str, float]
    per_category: tuple[CategoryAP, ...]
    by_group: dict[str, dict[str, float]] = field(default_factory=dict)

    def group_sizes(self) -> dict[str, tuple[int, int]]:
        """Return group -> (number of categories with ground truth, number of categories)."""
        sizes = {}
        for group in GROUPS:
            members = [c for c in self.per_category if c.group == group]
            sizes[group] = (sum(c.num_gt_instances > 0 for c in members), len(members))
        return sizes

    def category_rows(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a category, with "AP", "AP50", "AP75", for json and csv."""
        short = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
        return [
            {short.get(key, key): value for key, value in asdict(category).items()}
            for category in self.per_category
        ]


def lvis_average_precision(
    ground_truth: LVISGroundTruth | Mapping[str, Any] | str | os.PathLike,
    detections: Detections | Records | str | os.PathLike,
    *,
    iou_type: IoUType,
    max_dets: int = 300,
    frequency_groups: Mapping[int, str] | None = None,
    backend: Backend = "hotcoco",
) -> LVISAveragePrecision:
    """Return LVIS AP over all categories, by size, by training frequency and by category.

    Args:
        ground_truth: LVIS-format json, its path or its content; never changed. See
            :func:`read_ground_truth` for jsons without the federated lists.
        detections: result records (or a json file of them) with "image_id", "category_id",
            "score", and "bbox" (XYWH, pixels) or "segmentation" (compressed run-length encoding),
            or the same as :class:`Detections`; never changed. With equal scores, order counts.
        iou_type: whether boxes or masks are compared. Small, medium and large go by the area of
            the box or the mask of a detection, and by "area" of an annotation.
        max_dets: highest-scoring detections kept for each image, over all categories. LVIS: 300.
        frequency_groups: category id -> "r", "c" or "f", from the counts of the TRAINING split.
            None takes "frequency" of the json; if it has none either, APr, APc and APf are nan.
        backend: "hotcoco" (fast) or "lvis-api" (reference); equal to 1e-9.

    Raises:
        ValueError: if an argument is not one of the above, or ids do not belong together.
        ImportError: if the backend is not installed.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type: expected one of {IOU_TYPES}, got {iou_type!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {tuple(BACKENDS)}, got {backend!r}")
    if max_dets < 1:
        raise ValueError(f"max_dets: expected at least 1 detection an image, got {max_dets}")
    if not isinstance(ground_truth, LVISGroundTruth):
        ground_truth = read_ground_truth(ground_truth, with_masks=iou_type == "segm")
    detections = as_detections(detections)
    # One id of each run: sorting millions takes longer than the metric.
    firsts = detections.image_runs()[0]
    _check_ids(detections.image_ids[firsts], ground_truth.image_ids, "images")
    _check_ids(occurring(detections.category_ids), set(ground_truth.category_ids), "categories")
    if iou_type == "segm":
        _check_masks(ground_truth, detections)
    groups = _check_groups(frequency_groups, ground_truth)

    precision = BACKENDS[backend](ground_truth, detections, iou_type=iou_type, max_dets=max_dets)
    by_group = {
        group: _six(precision[:, :, [groups.get(i) == group for i in ground_truth.category_ids]])
        for group in GROUPS
    }
    of_groups = {f"AP{group}": six["AP"] for group, six in by_group.items()}
    return LVISAveragePrecision(
        iou_type=iou_type,
        max_dets=max_dets,
        backend=backend,
        summary={**_six(precision), **of_groups},
        per_category=_per_category(precision, ground_truth, groups),
        by_group=by_group,
    )


def _six(precision: np.ndarray) -> dict[str, float]:
    """Return AP, AP50, AP75, APs, APm, APl from ``(T, R, K, A)`` precision."""
    return {
        "AP": mean_precision(precision[..., 0]),
        "AP50": mean_precision(precision[_IOU_50, ..., 0]),
        "AP75": mean_precision(precision[_IOU_75, ..., 0]),
        **{
            name: mean_precision(precision[..., area])
            for area, name in enumerate(("APs", "APm", "APl"), start=1)
        },
    }


def mean_precision(precision: np.ndarray) -> float:
    """Return the mean in percent of what is defined (not -1), nan if nothing is."""
    defined = precision[precision > -1]
    return float(defined.mean() * 100) if defined.size else float("nan")


def _per_category(
    precision: np.ndarray, ground_truth: LVISGroundTruth, groups: Mapping[int, str]
) -> tuple[CategoryAP, ...]:
    columns, num_classes = ground_truth.columns, len(ground_truth.categories)
    kept = ~columns.ignored
    instances = np.bincount(columns.classes[kept], minlength=num_classes).tolist()
    pairs = np.unique(columns.classes[kept] * len(columns.image_ids) + columns.images[kept])
    images = np.bincount(pairs // len(columns.image_ids), minlength=num_classes).tolist()
    return tuple(
        CategoryAP(
            category_id=category["id"],
            name=str(category.get("name", category["id"])),
            group=groups.get(category["id"]),
            num_gt_instances=instances[k],
            num_gt_images=images[k],
            ap=mean_precision(precision[:, :, k, 0]),
            ap50=mean_precision(precision[_IOU_50, :, k, 0]),
            ap75=mean_precision(precision[_IOU_75, :, k, 0]),
        )
        for k, category in enumerate(ground_truth.categories)
    )


def _check_ids(used: np.ndarray, known: set[int], what: str) -> None:
    unknown = [i for i in np.unique(used).tolist() if i not in known]
    if unknown:
        raise ValueError(
            f"detections: {len(unknown)} {what} are not in the ground truth, first ids "
            f"{unknown[:5]}; it has {len(known)} with ids {min(known)} to {max(known)}. "
            "Are the detections of this data set, with the ids of its json?"
        )


def _check_masks(ground_truth: LVISGroundTruth, detections: Detections) -> None:
    for annotation in ground_truth.annotations:
        if not annotation.get("segmentation"):
            raise ValueError(
                f"ground_truth: annotation {annotation['id']} (counted from 1), of image "
                f"{annotation['image_id']}, has no segmentation; evaluate iou_type='bbox' only"
            )
    if detections.masks is None:
        return
    # Masks of another size overlap with nothing, which would read as a poor model.
    expected = np.array([[image["height"], image["width"]] for image in ground_truth.images])
    images = np.array([image["id"] for image in ground_truth.images])
    order = np.argsort(images)
    expected = expected[order[np.searchsorted(images[order], detections.image_ids)]]
    wrong = np.flatnonzero((detections.masks.sizes != expected).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"detections: a mask of image {int(detections.image_ids[row])} has (height, width) "
            f"{tuple(detections.masks.sizes[row].tolist())}, the ground truth says "
            f"{tuple(expected[row].tolist())}"
        )


def _check_groups(
    frequency_groups: Mapping[int, str] | None, ground_truth: LVISGroundTruth
) -> Mapping[int, str]:
    source = "frequency_groups"
    if frequency_groups is None:
        source = "'frequency' of the ground truth's categories"
        frequency_groups = ground_truth.frequency_groups()
    if frequency_groups is None:
        logger.warning(
            "APr, APc and APf are nan: the ground truth has no 'frequency' and no frequency_groups "
            "were passed. Make them from the training split (ClassStats.frequency_groups)."
        )
        return {}
    missing = [i for i in ground_truth.category_ids if i not in frequency_groups]
    if missing:
        raise ValueError(f"{source}: no group for {len(missing)} category ids, first {missing[:5]}")
    wrong = {i: g for i, g in frequency_groups.items() if g not in GROUPS}
    if wrong:
        first = next(iter(wrong.items()))
        raise ValueError(
            f"{source}: expected one of {GROUPS}, got {first[1]!r} for category id {first[0]}"
        )
    return frequency_groups
