"""Post-processing of dense detectors (RetinaNet, FCOS) with many classes.

Shape shorthand: R anchors of a feature level, K foreground classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances
from torch import Tensor

from lt_det.modeling.postprocessing.candidates import Candidates, best_candidates
from lt_det.modeling.postprocessing.choice import is_ours_wanted, is_recorded
from lt_det.modeling.postprocessing.nms import best_survivors


class DenseInference(DenseDetector):
    """Mixin that finds the detections of a dense detector faster; goes first in the bases.

    Attributes:
        fast_inference: True: by our code; False: by Detectron2's; None: by ours on a CPU.
    """

    fast_inference: bool | None = None

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the detections of one image; arguments as in :class:`RetinaNet`."""
        found = None
        wanted = is_ours_wanted(self.fast_inference, box_cls[0].device)
        # Detectron2 takes a negative limit as the end of a slice: that is left to it.
        if wanted and self.max_detections_per_image >= 0 and not is_recorded():
            found = dense_detections(
                anchors,
                box_cls,
                box_delta,
                image_size,
                box2box_transform=self.box2box_transform,
                score_threshold=self.test_score_thresh,
                topk_candidates=self.test_topk_candidates,
                iou_threshold=self.test_nms_thresh,
                limit=self.max_detections_per_image,
            )
        if found is None:
            found = super().inference_single_image(anchors, box_cls, box_delta, image_size)
        return found


def dense_detections(
    anchors: Sequence[Boxes],
    scores: Sequence[Tensor],
    deltas: Sequence[Tensor],
    image_size: tuple[int, int],
    *,
    box2box_transform: Any,
    score_threshold: float,
    topk_candidates: int,
    iou_threshold: float,
    limit: int,
) -> Instances | None:
    """Return the detections of one image: Detectron2's, see the package for equal scores.

    Args:
        anchors: R boxes for each feature level.
        scores: ``(R, K)`` for each level.
        deltas: ``(R, 4)`` for each level.
        image_size: (height, width) in pixels.
        box2box_transform: decodes ``deltas`` at ``anchors``.
        score_threshold: candidates score higher.
        topk_candidates: the best so many of each level are decoded.
        iou_threshold: IoU above which the better of two boxes of a class is kept.
        limit: the best so many detections are returned; >= 0.

    Returns:
        ``pred_boxes``, ``scores``, ``pred_classes``, best first; None if a score is NaN.
    """
    levels, boxes = [], []
    for level_anchors, level_scores, level_deltas in zip(anchors, scores, deltas):
        best = best_candidates(level_scores, topk_candidates)
        rows = best.regions
        levels.append(best)
        boxes.append(box2box_transform.apply_deltas(level_deltas[rows], level_anchors.tensor[rows]))
    flat, classes = (torch.cat([getattr(b, n) for b in levels]) for n in ("scores", "classes"))
    all_boxes = torch.cat(boxes)
    # Stable: levels, and what is equal within a level, stay in their order.
    order = flat.sort(descending=True, stable=True)[1]
    # From here on a region is a place in all_boxes.
    candidates = Candidates(flat[order], order, classes[order])
    found = best_survivors(
        candidates.first,
        lambda some: all_boxes[some.regions],
        total=len(order),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        limit=limit,
        is_sound=~flat.isnan().any(),
    )
    if found is None:
        return None
    survivors, kept_boxes = found
    return Instances(
        image_size,
        pred_boxes=Boxes(kept_boxes),
        scores=survivors.scores,
        pred_classes=survivors.classes,
    )
