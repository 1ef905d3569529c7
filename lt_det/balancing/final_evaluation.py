"""Evaluate the start and the result of a balance through the whole model, masks included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from torch import nn

from lt_det.balancing.replay import PostProcessing
from lt_det.balancing.subject import Subject
from lt_det.balancing.training import quiet
from lt_det.engine.evaluated_model import EvaluatedModel, evaluating
from lt_det.engine.trainer import LongTailTrainer


def num_images(subject: Subject) -> int:
    """Return how many images an evaluation takes: all of the data set, whatever was chosen on."""
    return len(DatasetCatalog.get(subject.choose_on))


def results_of(
    subject: Subject, model: nn.Module, limits: PostProcessing | None, folder: Path
) -> dict[str, Any]:
    """Return task -> metric -> value of an evaluation on the data set that was chosen on.

    Args:
        subject: of the balance.
        model: in evaluation mode, with its weights; it has these limits already.
        limits: of its detections, for the record.
        folder: gets what an evaluation writes to OUTPUT_DIR.
    """
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
    return {task: dict(values) for task, values in results.items()}
