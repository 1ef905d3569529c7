"""Evaluate the start and the result of a balance through the whole model, masks included.

What is finished is kept, so that a stopped or repeated balance does not evaluate it again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from torch import nn

from lt_det.balancing.replay import Classifiers, PostProcessing
from lt_det.balancing.subject import Subject
from lt_det.balancing.training import quiet
from lt_det.engine.evaluated_model import EvaluatedModel, evaluating
from lt_det.engine.trainer import LongTailTrainer
from lt_det.evaluation.results import write_json
from lt_det.storage.regular_file import open_regular


def num_images(subject: Subject) -> int:
    """Return how many images an evaluation takes: all of the data set, whatever was chosen on."""
    return len(DatasetCatalog.get(subject.choose_on))


def results_of(
    subject: Subject,
    model: nn.Module,
    classifiers: Classifiers,
    limits: PostProcessing | None,
    folder: Path,
) -> dict[str, Any]:
    """Return task -> metric -> value of an evaluation on the data set that was chosen on.

    Args:
        subject: of the balance.
        model: in evaluation mode, with its weights; it has these classifiers and limits already.
        classifiers: by which a finished evaluation is known again.
        limits: of its detections, likewise, and for the record.
        folder: gets what an evaluation writes to OUTPUT_DIR, and the results.
    """
    path, key = folder / "results.json", _digest(classifiers, limits)
    try:
        with open_regular(path, "r", encoding="utf-8") as file:
            kept = json.load(file)
        if kept["digest"] == key:
            return {task: _with_nan(values) for task, values in kept["results"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none, or damaged: it is done anew
    cfg = subject.cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    cfg.LT_DET.EVAL.PICTURES = False
    if limits is not None:
        for node in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
            node.SCORE_THRESH_TEST = limits.score_threshold
            node.NMS_THRESH_TEST = limits.nms_threshold
    cfg.freeze()
    folder.mkdir(parents=True, exist_ok=True)
    about = EvaluatedModel(None, subject.evaluated.iterations, subject.stats)
    with quiet(), evaluating(about):
        results = LongTailTrainer.test(cfg, model)
    found = {task: dict(values) for task, values in results.items()}
    write_json(path, {"digest": key, "results": found})
    return found


def _digest(classifiers: Classifiers, limits: PostProcessing | None) -> str:
    """Return the sha256 of what the balanced models of one balance differ in, in hex."""
    digest = hashlib.sha256(repr(limits).encode())
    for part in (part for pair in classifiers for part in pair):
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def _with_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as they were before they were json, which has no NaN."""
    return {k: float("nan") if v is None else v for k, v in values.items()}
