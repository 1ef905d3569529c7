"""Check the score threshold of a detector, and warn where it costs AP."""

from __future__ import annotations

from typing import Any

from lt_det.data.warn_once import warn_once
from lt_det.tasks import build_task

#: Kind of evaluation -> highest threshold that its results are usually reported with. AP counts
#: what has the lowest scores as well; LVIS limits the number of detections in its place.
USUAL = {"lvis": 0.001, "coco": 0.05}


def score_threshold(cfg: Any) -> tuple[str, float] | None:
    """Return the key of the configured model's score threshold and its value; None without one."""
    task = build_task(cfg)
    if task.one_class_an_image:
        return None
    part = task.num_classes_key.split(".")[1]  # the node of the head
    return f"MODEL.{part}.SCORE_THRESH_TEST", float(cfg.MODEL[part].SCORE_THRESH_TEST)


def warn_of_score_threshold(cfg: Any, name: str, kind: str) -> None:
    """Warn if the threshold is so high that it changes AP on a data set of that kind."""
    found = score_threshold(cfg)
    if found is None or found[1] <= USUAL.get(kind, 1.0):
        return
    key, value = found
    usual = {"lvis": "0.0001", "coco": "0.05"}[kind]
    warn_once(
        f"{key} is {value:g}: detections of lower scores are not evaluated, which changes AP on "
        f"DATASETS.TEST {name!r}, that of rare classes most. Results on {kind.upper()}'s metric "
        f"are reported with {usual}; keep a higher one for pictures only"
    )


def threshold_text(cfg: Any) -> str:
    """Return e.g. ``MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.05``, for evaluators."""
    found = score_threshold(cfg)
    return "" if found is None else f"{found[0]} {found[1]:g}"
