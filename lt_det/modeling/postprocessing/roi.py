"""Post-processing of Fast R-CNN heads with many classes.

Shape shorthand: Ri regions of image i, K foreground classes, C box regressions of a region: K, or
1 where boxes are class-agnostic.

:func:`fast_rcnn_inference` takes the place of Detectron2's function of that name. With heads of
this package it runs by default on a CPU (LT_DET.FAST_INFERENCE); with another predictor::

    class Predictor(FastRCNNOutputLayers):
        def inference(self, predictions, proposals):
            return predict_detections(self, predictions, proposals)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference as stock_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor

from lt_det.modeling.postprocessing.candidates import Candidates, best_candidates
from lt_det.modeling.postprocessing.choice import is_recorded
from lt_det.modeling.postprocessing.nms import BoxesOf, best_survivors
from lt_det.modeling.roi.box_regression import ByClassBoxRegression

# Score threshold, IoU threshold, number of detections.
_Limits = tuple[float, float, int]

# Deltas and boxes (pixels) up to this size decode to finite boxes.
_SURELY_FINITE = 1e6

# Predictors that decode the deltas of all classes in Detectron2's way.
_KNOWN_DECODING = (FastRCNNOutputLayers.predict_boxes, ByClassBoxRegression.predict_boxes)


def fast_rcnn_inference(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Return the detections of each image: Detectron2's, see the package for equal scores.

    Args:
        boxes: for each image ``(Ri, C * 4)`` float, xyxy in pixels.
        scores: for each image ``(Ri, K + 1)`` float; the last column, the background, is not
            read, except that regions with values that are not finite are dropped.
        image_shapes: (height, width) of each image, in pixels.
        score_thresh: candidates score higher.
        nms_thresh: IoU in [0, 1] above which the better of two boxes of a class is kept.
        topk_per_image: the best so many detections are returned; negative: all.

    Returns:
        for each image, :class:`Instances` with ``pred_boxes``, ``scores``, ``pred_classes``, best
        first; and the region ``(n,)`` int64 of each, counted without the dropped ones.
    """
    limits = (score_thresh, nms_thresh, topk_per_image)
    if is_recorded() or not all(
        b.shape[1] in (4, 4 * (s.shape[1] - 1)) for b, s in zip(boxes, scores)
    ):
        return stock_inference(list(boxes), list(scores), list(image_shapes), *limits)
    results = [
        _of_image(image_boxes, image_scores, image_shape, limits)
        for image_boxes, image_scores, image_shape in zip(boxes, scores, image_shapes)
    ]
    return [found for found, _ in results], [regions for _, regions in results]


def predict_detections(
    predictor: FastRCNNOutputLayers,
    predictions: tuple[Tensor, Tensor],
    proposals: list[Instances],
) -> tuple[list[Instances], list[Tensor]]:
    """Return what ``predictor.inference`` of Detectron2 returns; see the package for equal scores.

    Class-specific boxes are decoded for the candidates that are looked at, not for all classes.

    Args:
        predictor: any with Detectron2's attributes.
        predictions: logits and box deltas of its ``forward``.
        proposals: with the field ``proposal_boxes``.

    Returns:
        see :func:`fast_rcnn_inference`.
    """
    if is_recorded():
        return FastRCNNOutputLayers.inference(predictor, predictions, proposals)
    limits = (
        predictor.test_score_thresh,
        predictor.test_nms_thresh,
        predictor.test_topk_per_image,
    )
    scores = predictor.predict_probs(predictions, proposals)
    results = []
    if _decodes_singly(predictor, predictions[1]) and proposals:
        proposal_boxes = [p.proposal_boxes.tensor for p in proposals]
        deltas = predictions[1].split([len(b) for b in proposal_boxes])
        is_sound = _is_small(predictions[1]) & _is_small(torch.cat(proposal_boxes))
        for image_deltas, image_boxes, image_scores, image in zip(
            deltas, proposal_boxes, scores, proposals
        ):
            boxes_of = _decoder(predictor.box2box_transform, image_deltas, image_boxes)
            sound = is_sound & _is_finite(image_scores)
            found = _detections(boxes_of, image_scores, image.image_size, limits, sound)
            if found is None:
                break
            results.append(found)
    if len(results) < len(proposals):
        boxes = predictor.predict_boxes(predictions, proposals)
        return fast_rcnn_inference(boxes, scores, [p.image_size for p in proposals], *limits)
    return [found for found, _ in results], [regions for _, regions in results]


def cascade_detections(
    heads: Any, features: Mapping[str, Tensor], proposals: list[Instances]
) -> list[Instances]:
    """Return the detections of each image, those of :class:`CascadeROIHeads`.

    Args:
        heads: the cascade, not training.
        features: feature maps by name.
        proposals: with the field ``proposal_boxes``.
    """
    maps = [features[name] for name in heads.box_in_features]
    shapes = [p.image_size for p in proposals]
    scores: list[Sequence[Tensor]] = []
    boxes: Any = None
    for stage, predictor in enumerate(heads.box_predictor):
        if stage:
            proposals = heads._create_proposals_from_boxes(boxes, shapes)
        predictions = heads._run_stage(maps, proposals, stage)
        scores.append(predictor.predict_probs(predictions, proposals))
        boxes = predictor.predict_boxes(predictions, proposals)
    mean_scores = [sum(of_image) * (1.0 / len(scores)) for of_image in zip(*scores)]
    return fast_rcnn_inference(
        boxes,
        mean_scores,
        shapes,
        predictor.test_score_thresh,
        predictor.test_nms_thresh,
        predictor.test_topk_per_image,
    )[0]


def _of_image(
    boxes: Tensor, scores: Tensor, image_shape: tuple[int, int], limits: _Limits
) -> tuple[Instances, Tensor]:
    """Return the detections of one image, and their regions."""
    is_sound = _is_finite(boxes) & _is_finite(scores)
    found = _detections(_box_lookup(boxes), scores, image_shape, limits, is_sound)
    if found is None:
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes, scores = boxes[finite], scores[finite]
        is_sound = torch.ones_like(is_sound)
        found = _detections(_box_lookup(boxes), scores, image_shape, limits, is_sound)
        assert found is not None
    return found


def _decodes_singly(predictor: FastRCNNOutputLayers, deltas: Tensor) -> bool:
    """Return whether boxes are class-specific and decoded in the known way."""
    return (
        type(predictor).predict_boxes in _KNOWN_DECODING
        and type(predictor.box2box_transform) is Box2BoxTransform
        and deltas.shape[1] == 4 * predictor.num_classes
    )


def _decoder(transform: Box2BoxTransform, deltas: Tensor, proposal_boxes: Tensor) -> BoxesOf:
    deltas = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)

    def boxes_of(candidates: Candidates) -> Tensor:
        regions, classes = candidates.regions, candidates.classes
        return transform.apply_deltas(deltas[regions, classes], proposal_boxes[regions])

    return boxes_of


def _box_lookup(boxes: Tensor) -> BoxesOf:
    boxes = boxes.reshape(len(boxes), boxes.shape[1] // 4, 4)

    def boxes_of(candidates: Candidates) -> Tensor:
        classes = candidates.classes if boxes.shape[1] > 1 else 0
        return boxes[candidates.regions, classes]

    return boxes_of


def _is_small(values: Tensor) -> Tensor:
    """Return a scalar bool; a norm tells in one pass, and it errs to the safe side."""
    return torch.linalg.vector_norm(values, dtype=torch.float32) < _SURELY_FINITE


def _is_finite(values: Tensor) -> Tensor:
    """Return a scalar bool: False also where values are so large that their sum is not finite."""
    return torch.isfinite(values.sum(dtype=torch.float32))


def _detections(
    boxes_of: BoxesOf,
    scores: Tensor,
    image_shape: tuple[int, int],
    limits: _Limits,
    is_sound: Tensor,
) -> tuple[Instances, Tensor] | None:
    """Return the detections of one image, and their regions ``(n,)``; None if not ``is_sound``."""
    scores = scores[:, :-1]
    height, width = image_shape
    score_thresh, nms_thresh, topk_per_image = limits

    def clipped_boxes_of(candidates: Candidates) -> Tensor:
        # Boxes.clip, which waits for the device to check that all are finite.
        x1, y1, x2, y2 = boxes_of(candidates).unbind(dim=1)
        x1, x2 = x1.clamp(min=0, max=width), x2.clamp(min=0, max=width)
        y1, y2 = y1.clamp(min=0, max=height), y2.clamp(min=0, max=height)
        return torch.stack([x1, y1, x2, y2], dim=1)

    found = best_survivors(
        lambda number: best_candidates(scores, number),
        clipped_boxes_of,
        total=scores.numel(),
        score_threshold=score_thresh,
        iou_threshold=nms_thresh,
        limit=topk_per_image,
        is_sound=is_sound,
    )
    if found is None:
        return None
    survivors, boxes = found
    result = Instances(image_shape)
    result.pred_boxes = Boxes(boxes)
    result.scores = survivors.scores
    result.pred_classes = survivors.classes
    return result, survivors.regions
