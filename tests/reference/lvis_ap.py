"""lvis-api itself, run from files as its authors do, with nothing of lt_det in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def lvis_api(
    ground_truth: dict, records: list[dict], *, iou_type: str, max_dets: int, folder: Path
) -> tuple[dict[str, float], np.ndarray]:
    """Return lvis-api's summary in [0, 1] (-1: undefined) and its (T, R, K, A) precision."""
    import lvis

    path = folder / "ground_truth.json"
    path.write_text(json.dumps(ground_truth))
    # As Detectron2 does: with a box present, the area of a mask would be that of its box.
    unwanted = "bbox" if iou_type == "segm" else "segmentation"
    records = [{k: v for k, v in record.items() if k != unwanted} for record in records]
    had_float = "float" in vars(np)
    if not had_float:
        np.float = float
    try:
        truth = lvis.LVIS(str(path))
        evaluation = lvis.LVISEval(
            truth, lvis.LVISResults(truth, records, max_dets=max_dets), iou_type
        )
        evaluation.run()
    finally:
        if not had_float:
            del np.float
    return dict(evaluation.get_results()), evaluation.eval["precision"]
