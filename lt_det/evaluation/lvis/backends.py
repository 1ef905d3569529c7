"""LVIS precision curves from two implementations of the metric.

``lvis-api`` (PyPI: lvis) is the definition: Gupta et al., "LVIS: A Dataset for Large Vocabulary
Instance Segmentation", CVPR 2019, https://arxiv.org/abs/1908.03195. ``hotcoco`` is a fast one that
the tests hold equal to it to 1e-9. Both are optional: ``pip install lt_det[eval]``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.collection import without_collection
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth

# Areas in px of all, small, medium and large objects; both ends belong to a range. The metric's.
AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
NUM_IOU_THRESHOLDS, NUM_RECALL_THRESHOLDS = 10, 101
# Detections that hotcoco holds at once; a mask is a dictionary on its way there.
_AT_ONCE = {"bbox": 2**19, "segm": 2**16}


@without_collection
def hotcoco_precision(
    ground_truth: LVISGroundTruth, detections: Detections, *, iou_type: str, max_dets: int
) -> np.ndarray:
    """Return ``(T, R, K, A)`` float64 precision in [0, 1], -1 where there is nothing to find.

    T IoU thresholds 0.5 to 0.95, R recall thresholds 0 to 1, K categories in the order of
    ``ground_truth.category_ids``, A areas (all, small, medium, large).

    Args:
        ground_truth: with segmentations if ``iou_type`` is "segm".
        detections: of known images and categories only.
        iou_type: "bbox" or "segm".
        max_dets: detections kept for each image, over all categories.
    """
    hotcoco = _import_hotcoco()
    detections.check_has(iou_type)
    detections = detections.top_scoring(max_dets)
    columns = ground_truth.columns
    images, classes = ground_truth.rows_of(detections)
    # The metric leaves out what an image says nothing about. Done here it spares half of the work.
    rows = np.flatnonzero(ground_truth.judged_rows(images, classes))
    # By category, each in the order given, which decides between equal scores.
    rows = rows[np.argsort(classes[rows].astype(_narrow(len(columns.category_ids))), kind="stable")]
    images, classes = images[rows].astype(np.int32), classes[rows].astype(np.int32)
    precision = precision_without_detections(ground_truth)
    truth_images = _truth_images(ground_truth)
    for part in _parts(classes, most=_AT_ONCE[iou_type]):
        some = detections.take(rows[part])
        boxes, areas = some.geometry(iou_type)
        # lvis-api drops what has no area when it reads, after the limit: it took a place there.
        there = np.flatnonzero(areas > 0)
        if not len(there):
            continue
        low, high = int(classes[part.start]), int(classes[part.stop - 1]) + 1
        truth = hotcoco.COCO.from_arrays(
            images=truth_images, **_truth_columns(ground_truth, low, high, iou_type=iou_type)
        )
        table = np.empty((len(there), 7))
        table[:, 0], table[:, 1:5] = images[part][there] + 1, boxes[there]
        table[:, 5], table[:, 6] = some.scores[there], classes[part][there] + 1
        masks = None
        if iou_type == "segm" and some.masks is not None:
            masks = list(some.masks.take(there))
        found = truth.load_res(table, segmentation=masks)
        if iou_type == "segm":  # it takes the box's area where there is a box
            found.update_anns(ids=np.arange(1, len(there) + 1), area=areas[there])
        del table, masks, some, boxes
        # Marks the detections as limited already; otherwise 300 an image would be kept at most.
        found = found.cap_detections_per_image(None)
        evaluation = hotcoco.LVISeval(truth, found, iou_type)
        del truth, found
        evaluation.evaluate()
        evaluation.accumulate()
        precision[:, :, low:high] = np.asarray(evaluation.eval["precision"])[..., 0]
    return precision


def _parts(classes: np.ndarray, *, most: int) -> Iterator[slice]:
    """Yield slices of about ``most`` rows, or of one class, that share no class; rising classes."""
    begin = 0
    while begin < len(classes):
        end = int(np.searchsorted(classes, classes[min(begin + most, len(classes)) - 1], "right"))
        yield slice(begin, end)
        begin = end


def _narrow(num_classes: int) -> type:
    """Return an integer type that holds the classes: NumPy sorts 16 bits by counting."""
    return np.int16 if num_classes < 2**15 else np.int32


def _truth_columns(
    ground_truth: LVISGroundTruth, low: int, high: int, *, iou_type: str
) -> dict[str, Any]:
    """Return the part that is about the categories from ``low`` to ``high``, ids from 1 on.

    Ids are places: hotcoco's table of detections is of float64, which cuts ids above 2^53.
    """
    columns = ground_truth.columns
    kept = np.flatnonzero((columns.classes >= low) & (columns.classes < high))
    # hotcoco 1.3.0 does not read "ignore" in its LVIS mode. Beyond every range of areas an object
    # is ignored in all of them, which is what the flag does in lvis-api.
    areas = np.where(columns.ignored[kept], 10 * AREA_RANGES[0][1], columns.areas[kept])
    segmentation = None
    if iou_type == "segm":
        segmentation = [ground_truth.annotations[row]["segmentation"] for row in kept.tolist()]
    return {
        "categories": [{"id": k + 1, "name": str(k)} for k in range(low, high)],
        "image_ids": columns.images[kept] + 1,
        "category_ids": columns.classes[kept] + 1,
        "boxes": columns.boxes[kept],
        "area": areas,
        "segmentation": segmentation,
    }


def _truth_images(ground_truth: LVISGroundTruth) -> list[dict[str, Any]]:
    """Return the images and their lists, ids from 1 on."""
    columns = ground_truth.columns
    number = {c: k for k, c in enumerate(columns.category_ids.tolist(), start=1)}
    place = {i: k for k, i in enumerate(columns.image_ids.tolist(), start=1)}
    lists: dict[int, list[int]] = {}  # images may share one list of all categories

    def numbers(listed: list[int]) -> list[int]:
        if id(listed) not in lists:
            lists[id(listed)] = [number[c] for c in listed if c in number]
        return lists[id(listed)]

    return [
        {
            "id": place[image["id"]],
            "height": image["height"],
            "width": image["width"],
            "neg_category_ids": numbers(image["neg_category_ids"]),
            "not_exhaustive_category_ids": numbers(image["not_exhaustive_category_ids"]),
        }
        for image in ground_truth.images
    ]


def lvis_api_precision(
    ground_truth: LVISGroundTruth, detections: Detections, *, iou_type: str, max_dets: int
) -> np.ndarray:
    """Return what :func:`hotcoco_precision` returns, computed by lvis-api; slow.

    The package's release 0.5.3 uses ``np.float``, which NumPy 1.24 removed; the name is given back
    to that one module while it runs.
    """
    lvis = _import_lvis()
    detections.check_has(iou_type)
    if not len(detections):  # lvis-api reads the first detection to learn its format
        return precision_without_detections(ground_truth)

    class GroundTruthInMemory(lvis.LVIS):  # type: ignore[name-defined]
        """lvis.LVIS of content instead of a path."""

        def _load_json(self, path: Any) -> Any:
            return path

    truth = GroundTruthInMemory(
        {
            "images": ground_truth.images,
            # It adds keys to the annotations and replaces the segmentations.
            "annotations": [dict(a) for a in ground_truth.annotations],
            # It refuses categories without a group; the curves do not depend on it.
            "categories": [
                {**c, "frequency": c.get("frequency", "f")} for c in ground_truth.categories
            ],
        }
    )
    records = list(detections.records())
    for record in records:
        # With both present the area, so small/medium/large, would be the box's for masks too.
        record.pop("bbox" if iou_type == "segm" else "segmentation", None)
    # By its place: after an import that failed halfway the package has no attribute of that name.
    with _quiet(lvis), _numpy_float_for(sys.modules[lvis.LVISEval.__module__]):
        results = lvis.LVISResults(truth, records, max_dets=max_dets)
        evaluation = lvis.LVISEval(truth, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"]


def precision_without_detections(ground_truth: LVISGroundTruth) -> np.ndarray:
    """Return the curves of a model that finds nothing: 0 where there was something, else -1."""
    columns = ground_truth.columns
    shape = (NUM_IOU_THRESHOLDS, NUM_RECALL_THRESHOLDS, len(columns.category_ids), len(AREA_RANGES))
    precision = np.full(shape, -1.0)
    for index, (low, high) in enumerate(AREA_RANGES):
        there = ~columns.ignored & (low <= columns.areas) & (columns.areas <= high)
        precision[:, :, np.unique(columns.classes[there]), index] = 0.0
    return precision


def _import_hotcoco() -> Any:
    try:
        import hotcoco
    except ImportError as error:
        raise ImportError(
            "backend 'hotcoco' is not installed: pip install 'lt_det[eval]' (or use "
            "backend='lvis-api')"
        ) from error
    return hotcoco


def check_backend(backend: str) -> None:
    """Raise if a backend is unknown or not installed.

    Raises:
        ValueError: if there is no backend of that name.
        ImportError: says what to install.
    """
    importers = {"hotcoco": _import_hotcoco, "lvis-api": _import_lvis}
    if backend not in importers:
        raise ValueError(f"backend: expected one of {tuple(importers)}, got {backend!r}")
    importers[backend]()


def _import_lvis() -> Any:
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        import lvis
    except ModuleNotFoundError as error:
        if error.name == "lvis":
            raise ImportError(
                "backend 'lvis-api' is not installed: pip install 'lt_det[eval]' (or use "
                "backend='hotcoco')"
            ) from error
        raise ImportError(
            f"backend 'lvis-api' needs {error.name}, which its package imports for drawing: "
            "pip install opencv-python-headless matplotlib"
        ) from error
    except ImportError as error:  # OpenCV is there, a system library of it is not
        raise ImportError(
            f"backend 'lvis-api' could not be imported ({error}); where libGL is missing: "
            "pip uninstall opencv-python, then pip install opencv-python-headless"
        ) from error
    finally:
        # The package configures the root logger on import, which is the application's to do.
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)
    return lvis


class _NumpyWithFloat(types.ModuleType):
    """NumPy as it was before 1.24: all of it, and ``float``."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextlib.contextmanager
def _numpy_float_for(module: Any) -> Iterator[None]:
    """Let ``module`` see ``np.float``; NumPy itself, and all other modules, stay as they are."""
    original = module.np
    module.np = _NumpyWithFloat("numpy")
    try:
        yield
    finally:
        module.np = original


@contextlib.contextmanager
def _quiet(lvis: Any) -> Iterator[None]:
    """Silence the package's warning that it trusts the format of the detections."""
    package_logger = logging.getLogger(lvis.__name__)
    level = package_logger.level
    package_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package_logger.setLevel(level)
