"""Pictures and a table of classes after an evaluation, from the files that it left.

AP against frequency, some test images with ground truth and detections, the worst and best classes
in the log. Main process only, and not in the middle of a training. The cost is one reading of the
ground truth and :data:`IMAGES` images through the model.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_context
from detectron2.structures import BoxMode
from detectron2.utils import comm
from torch import nn

from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.evaluated_model import evaluated_model
from lt_det.report.ap_plot import save_ap_plot
from lt_det.report.class_table import worst_and_best_table
from lt_det.report.prediction_sheet import ComparedImage, draw_prediction_sheet
from lt_det.report.runs import Run
from lt_det.tasks import Task, build_task

logger = logging.getLogger(__name__)

#: Test images on the sheet.
IMAGES = 16
# Detections below it are not drawn.
_DRAWN_FROM = 0.3


def draw_evaluation(cfg: Any, model: nn.Module) -> None:
    """Write the pictures of each test set beside its results, and log the table and the paths.

    Nothing that goes wrong here ends an evaluation: it is a warning.

    Args:
        cfg: config; LT_DET.EVAL.PICTURES False does nothing.
        model: that was evaluated.
    """
    if not cfg.LT_DET.EVAL.PICTURES or evaluated_model().in_training or not comm.is_main_process():
        return
    for name in cfg.DATASETS.TEST:
        parts = ["inference", name] if len(cfg.DATASETS.TEST) > 1 else ["inference"]
        folder = os.path.join(cfg.OUTPUT_DIR, *parts)
        try:
            _draw(cfg, model, name, folder)
        except Exception as error:
            logger.warning(
                "no pictures of the evaluation on %r: %s: %s (LT_DET.EVAL.PICTURES False leaves "
                "them out)",
                name,
                type(error).__name__,
                error,
            )


def _draw(cfg: Any, model: nn.Module, name: str, folder: str) -> None:
    task = build_task(cfg)
    run = _run_of(folder)
    if run is None:
        return  # an evaluator of another kind, or nothing was detected
    kind = next(kind for kind in ("segm", "bbox", "classification") if kind in run.categories)
    stats = evaluated_model().class_stats
    known = dict(zip(stats.class_names, stats.image_counts)) if stats else None
    metric = "accuracy" if kind == "classification" else "AP"
    table = worst_and_best_table(
        run.categories[kind],
        metric=metric,
        train_images=None if kind == "classification" else known,
    )
    logger.info("Worst and best classes of %s, %s (%s):\n%s", name, metric, kind, table)
    if kind == "classification":
        return
    if stats is not None:
        path = os.path.join(folder, "ap_against_frequency.png")
        save_ap_plot(stats, {name: [run]}, path, task=kind)
        logger.info("AP against the frequency of classes: %s", path)
    path = os.path.join(folder, "predictions.png")
    _draw_sheet(cfg, model, task, name, path, stats=stats)
    logger.info("Ground truth and detections of some test images: %s", path)


def _run_of(folder: str) -> Run | None:
    summaries, categories = {}, {}
    for kind in ("bbox", "segm", "classification"):
        path = os.path.join(folder, f"per_category_{kind}.json")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            summaries[kind], categories[kind] = content["summary"], content["categories"]
    return Run(folder, summaries, categories) if categories else None


def _draw_sheet(
    cfg: Any, model: nn.Module, task: Task, name: str, path: str, *, stats: ClassStats | None
) -> None:
    class_names = MetadataCatalog.get(name).thing_classes
    records = DatasetCatalog.get(name)
    counts = stats.image_counts if stats is not None else [0] * len(class_names)
    chosen = chosen_records(records, counts)
    mapper = task.build_mapper(cfg, is_train=False)
    keys = ("file_name", "image_id", "height", "width")
    images = []
    for record in chosen:
        sample = mapper({key: record[key] for key in keys if key in record})
        with inference_context(model), torch.no_grad():
            instances = model([sample])[0]["instances"].to("cpu")
        images.append(ComparedImage(record["file_name"], _truth(record), [_detections(instances)]))
    if not images:
        raise ValueError("the test set has no image with annotations")
    groups = stats.frequency_groups if stats is not None else ()
    draw_prediction_sheet(
        images,
        path,
        titles=[f"detections, score from {_DRAWN_FROM:g}"],
        names=dict(enumerate(class_names)),
        rare={k for k, group in enumerate(groups) if group == "r"},
        across=2,
    )


def chosen_records(
    records: Sequence[Mapping[str, Any]], counts: Sequence[int], *, number: int = IMAGES
) -> list[Mapping[str, Any]]:
    """Return images for the sheet: of each class in turn one, from the rarest class on.

    Args:
        records: Detectron2's data set dicts.
        counts: K training images of the classes.
        number: of images, at most.
    """
    of_class: dict[int, list[int]] = {}
    for row, record in enumerate(records):
        for k in {a["category_id"] for a in record.get("annotations", ())}:
            of_class.setdefault(k, []).append(row)
    queues = [iter(of_class[k]) for k in sorted(of_class, key=lambda k: (counts[k], k))]
    chosen: dict[int, None] = {}
    while queues and len(chosen) < number:
        left = []
        for rows in queues:
            fresh = next((row for row in rows if row not in chosen), None)
            if fresh is not None and len(chosen) < number:
                chosen[fresh] = None
                left.append(rows)
        queues = left
    return [records[row] for row in chosen]


def _truth(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "category_id": one["category_id"],
            "bbox": list(BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYWH_ABS)),
        }
        for one in record["annotations"]
        if not one.get("iscrowd", 0)
    ]


def _detections(instances: Any) -> list[dict[str, Any]]:
    instances = instances[instances.scores >= _DRAWN_FROM]
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    return [
        {"category_id": k, "bbox": box, "score": score}
        for k, box, score in zip(
            instances.pred_classes.tolist(), boxes.tolist(), instances.scores.tolist()
        )
    ]
