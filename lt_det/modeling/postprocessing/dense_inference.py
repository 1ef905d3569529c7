"""Post-processing of dense detectors (RetinaNet, FCOS): Detectron2's, faster at many classes.

Shape shorthand: R anchors of a feature level, K foreground classes.

Detectron2 lists every score above the threshold (with their indices 20 bytes a score) and takes
the best few of the list. Here the scores are read in pieces, and what cannot be among the best
any more is never listed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances
from torch import Tensor

from lt_det.modeling.postprocessing.exact_nms import batched_nms_best
from lt_det.modeling.postprocessing.fast_inference import is_recorded
from lt_det.modeling.postprocessing.nms_probe import suppression_of

# Scores read at a time: 4 MB of float32.
_PIECE = 2**20
# torch.topk looks for the k best of n with a heap where 64 k <= n, else it sorts.
_HEAP_FACTOR = 64
# So many scores are skipped at once if the best of them is too low.
_GROUP = 64


class DenseInference(DenseDetector):
    """Goes before a dense detector in the bases of a class, and finds the same detections faster.

    Attributes:
        fast_inference: False: by Detectron2's code.
    """

    fast_inference: bool = True

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the detections of one image; arguments as in :class:`RetinaNet`."""
        # Detectron2 takes a negative limit as the end of a slice: that is left to it.
        found = None
        if self.fast_inference and self.max_detections_per_image >= 0 and not is_recorded():
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
    """Return the detections of one image, equal to the last bit to Detectron2's RetinaNet.

    Args:
        anchors: R boxes for each feature level.
        scores: ``(R, K)`` in [0, 1] for each level.
        deltas: ``(R, 4)`` for each level.
        image_size: (height, width) in pixels.
        box2box_transform: decodes ``deltas`` at ``anchors``.
        score_threshold: candidates score higher.
        topk_candidates: the best so many of each level are decoded.
        iou_threshold: IoU above which the better of two boxes of a class is kept.
        limit: the best so many detections are returned; >= 0.

    Returns:
        ``pred_boxes``, ``scores``, ``pred_classes``, best first; None where equal scores leave
        it open which candidates Detectron2 takes (on a GPU, or Detectron2 v0.6).
    """
    all_boxes, all_scores, all_classes = [], [], []
    for level_anchors, level_scores, level_deltas in zip(anchors, scores, deltas):
        best = best_scores_above(
            level_scores,
            score_threshold=score_threshold,
            limit=topk_candidates,
            ties_known=_knows_ties(level_scores.device.type),
        )
        if best is None:
            return None
        best_scores, positions = best
        rows = torch.div(positions, level_scores.shape[1], rounding_mode="floor")
        all_classes.append(positions % level_scores.shape[1])
        all_scores.append(best_scores)
        all_boxes.append(
            box2box_transform.apply_deltas(level_deltas[rows], level_anchors.tensor[rows])
        )
    boxes, flat, classes = torch.cat(all_boxes), torch.cat(all_scores), torch.cat(all_classes)
    keep = batched_nms_best(
        flat,
        score_threshold=-1.0,  # all of them: scores are not negative
        iou_threshold=iou_threshold,
        limit=limit,
        classes_of=classes.__getitem__,
        boxes_of=boxes.__getitem__,
        suppression=suppression_of(flat.device),
    )
    return Instances(
        image_size,
        pred_boxes=Boxes(boxes[keep]),
        scores=flat[keep],
        pred_classes=classes[keep],
    )


def best_scores_above(
    scores: Tensor, *, score_threshold: float, limit: int, ties_known: bool = True
) -> tuple[Tensor, Tensor] | None:
    """Return the best scores above a threshold and their positions in ``scores.flatten()``.

    Of equal scores those, and in that order, that ``topk`` on the list of all scores above the
    threshold gives.

    Args:
        scores: ``(R, K)``.
        score_threshold: only higher scores count.
        limit: the number wanted, fewer if there are fewer.
        ties_known: False: return None if two of the best, or the last and the next, are equal.

    Returns:
        ``(n,)`` scores, falling, and ``(n,)`` int64.
    """
    listed = list_contenders(scores, score_threshold=score_threshold, limit=limit)
    values = scores.reshape(-1)[listed]
    if not ties_known:
        best = values.topk(min(limit + 1, len(listed)))[0]
        if bool((best[1:] == best[:-1]).any()):
            return None
    best, order = values.topk(min(limit, len(listed)))
    return best, listed[order]


def list_contenders(scores: Tensor, *, score_threshold: float, limit: int) -> Tensor:
    """Return positions, rising, among which the best ``limit`` scores are.

    topk goes through a list with a heap of the best so far, and an element that is not above the
    worst in the heap changes nothing: without it the result is the same, equal scores included.
    So from 64 ``limit`` elements on, where topk takes the heap, only such are listed.
    """
    flat = scores.reshape(-1)
    listed: list[Tensor] = []
    start, num_listed, worst, heap = 0, 0, score_threshold, flat[:0]
    # Small pieces until it is known what the others must be above.
    enough = _HEAP_FACTOR * limit
    size = max(_GROUP, min(_PIECE, enough))
    while start < len(flat):
        piece = flat[start : start + size]
        found = _positions_above(piece, worst)
        if len(found):
            listed.append(found + start)
            num_listed += len(found)
            heap = torch.cat([heap, piece[found]])
            heap = heap.topk(min(limit, len(heap)))[0]
            if num_listed >= enough and limit > 0:
                worst = max(worst, float(heap[-1]))
                size = _PIECE
        start += len(piece)
    if not listed:
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    return torch.cat(listed)


def _positions_above(values: Tensor, floor: float) -> Tensor:
    """Return the positions, rising, of the values ``(n,)`` that are higher; NaN is not.

    To look at the best of each group first takes a third of the time of a comparison of all.
    """
    num_groups = len(values) // _GROUP
    in_groups = num_groups * _GROUP
    best = values[:in_groups].view(num_groups, _GROUP).amax(dim=1)
    # A group with a NaN has that as its best.
    groups = (~(best <= floor)).nonzero()
    members = (groups * _GROUP + torch.arange(_GROUP, device=values.device)).reshape(-1)
    rest = torch.arange(in_groups, len(values), device=values.device)
    positions = torch.cat([members, rest])
    return positions[values[positions] > floor]


@functools.cache
def _knows_ties(device_type: str) -> bool:
    """Return whether we take the equal scores that the installed Detectron2 takes; tried out."""
    stock = getattr(DenseDetector, "_decode_per_level_predictions", None)
    if device_type != "cpu" or stock is None:
        return False
    num_anchors, num_classes = _PIECE // 4, 6  # more than one piece
    generator = torch.Generator().manual_seed(0)
    # Whatever torch's default dtype and device are.
    scores = torch.rand(
        num_anchors, num_classes, generator=generator, dtype=torch.float32, device="cpu"
    )
    scores = (scores * 3000).round() / 3000
    anchors = torch.arange(num_anchors, device="cpu")[:, None].expand(-1, 4).float()
    model = SimpleNamespace(box2box_transform=SimpleNamespace(apply_deltas=lambda _, boxes: boxes))
    for some in (scores, scores[:1000]):
        for limit in (10, 200):
            taken = stock(model, Boxes(anchors[: len(some)]), some, some, 0.5, limit, (1, 1))
            best = best_scores_above(some, score_threshold=0.5, limit=limit)
            expected = taken.pred_boxes.tensor[:, 0].long() * num_classes + taken.pred_classes
            if best is None or not torch.equal(best[1], expected):
                return False
    return True
