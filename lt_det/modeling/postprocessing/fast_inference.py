"""Post-processing of Fast R-CNN heads with many classes: Detectron2's detections, much faster.

Shape shorthand: Ri regions of image i, K foreground classes, C box regressions of a region: K, or
1 where boxes are class-agnostic.

:func:`fast_rcnn_inference` takes the place of Detectron2's function of that name. With heads of
this package it is on by default (LT_DET.FAST_INFERENCE); with another predictor::

    class Predictor(FastRCNNOutputLayers):
        def inference(self, predictions, proposals):
            return predict_detections(self, predictions, proposals)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference as stock_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor

from lt_det.data.warn_once import warn_once
from lt_det.modeling.postprocessing.exact_nms import batched_nms_best
from lt_det.modeling.postprocessing.nms_probe import suppression_of
from lt_det.modeling.roi.box_regression import ByClassBoxRegression

#: regions (n,), classes (n,) -> boxes (n, 4), not clipped to the image
BoxesAt = Callable[[Tensor, Tensor], Tensor]

# Deltas and boxes (pixels) up to this size decode to finite boxes.
_SURELY_FINITE = 1e6

# Predictors that decode the deltas of all classes in Detectron2's way.
_KNOWN_DECODING = (FastRCNNOutputLayers.predict_boxes, ByClassBoxRegression.predict_boxes)


def is_recorded() -> bool:
    """Return whether the model is being traced or exported: then the stock code has to run.

    How many blocks of candidates are looked at depends on the data; a trace would freeze it.
    """
    recorded = torch.jit.is_tracing() or torch.jit.is_scripting() or _is_compiled()
    if recorded:
        warn_once(
            "Traced or exported model: it gets Detectron2's own post-processing, which is slow "
            "with many classes"
        )
    return recorded


def _is_compiled() -> bool:
    function = getattr(getattr(torch, "compiler", None), "is_compiling", None)
    return function is not None and bool(function())  # from torch 2.1 on


def fast_rcnn_inference(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Return the detections of each image, the same to the last bit as Detectron2's function.

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
    detections, regions = [], []
    for image_boxes, image_scores, image_shape in zip(boxes, scores, image_shapes):
        # A sum tells in one pass, and it errs to the safe side: the exact test is far slower.
        if not _is_finite(image_boxes, image_scores):
            finite = torch.isfinite(image_boxes).all(dim=1) & torch.isfinite(image_scores).all(
                dim=1
            )
            image_boxes, image_scores = image_boxes[finite], image_scores[finite]
        found, region = _image_detections(
            _box_lookup(image_boxes), image_scores, image_shape, *limits
        )
        detections.append(found)
        regions.append(region)
    return detections, regions


def predict_detections(
    predictor: FastRCNNOutputLayers,
    predictions: tuple[Tensor, Tensor],
    proposals: list[Instances],
) -> tuple[list[Instances], list[Tensor]]:
    """Return what ``predictor.inference`` of Detectron2 returns, to the last bit.

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
    shapes = [p.image_size for p in proposals]
    if not (_decodes_singly(predictor, predictions[1], proposals) and _is_finite(*scores)):
        boxes = predictor.predict_boxes(predictions, proposals)
        return fast_rcnn_inference(boxes, scores, shapes, *limits)
    detections, regions = [], []
    deltas = predictions[1].split([len(p) for p in proposals])
    for image_deltas, image_scores, image in zip(deltas, scores, proposals):
        boxes_at = _decoder(predictor.box2box_transform, image_deltas, image.proposal_boxes.tensor)
        found, region = _image_detections(boxes_at, image_scores, image.image_size, *limits)
        detections.append(found)
        regions.append(region)
    return detections, regions


def cascade_detections(
    heads: Any, features: Mapping[str, Tensor], proposals: list[Instances]
) -> list[Instances]:
    """Return the detections of each image, to the last bit those of :class:`CascadeROIHeads`.

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


def _decodes_singly(
    predictor: FastRCNNOutputLayers, deltas: Tensor, proposals: list[Instances]
) -> bool:
    """Return whether boxes are class-specific, decoded in the known way, and surely finite."""
    known = (
        type(predictor).predict_boxes in _KNOWN_DECODING
        and type(predictor.box2box_transform) is Box2BoxTransform
    )
    if not known or not proposals or deltas.shape[1] != 4 * predictor.num_classes:
        return False
    boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
    return all(
        bool(torch.linalg.vector_norm(values, dtype=torch.float32) < _SURELY_FINITE)
        for values in (deltas, boxes)
    )


def _decoder(transform: Box2BoxTransform, deltas: Tensor, proposal_boxes: Tensor) -> BoxesAt:
    deltas = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)

    def boxes_at(regions: Tensor, classes: Tensor) -> Tensor:
        return transform.apply_deltas(deltas[regions, classes], proposal_boxes[regions])

    return boxes_at


def _box_lookup(boxes: Tensor) -> BoxesAt:
    boxes = boxes.reshape(len(boxes), boxes.shape[1] // 4, 4)

    def boxes_at(regions: Tensor, classes: Tensor) -> Tensor:
        return boxes[regions, 0] if boxes.shape[1] == 1 else boxes[regions, classes]

    return boxes_at


def _is_finite(*tensors: Tensor) -> bool:
    """Return False if a value is not finite, or if values are so large that their sum is not."""
    return all(bool(torch.isfinite(t.sum(dtype=torch.float32))) for t in tensors)


def _image_detections(
    boxes_at: BoxesAt,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Return the detections of one image, and their regions ``(n,)``; all values are finite."""
    num_classes = scores.shape[1] - 1
    # Position p is class p % K of region p // K, the order in which Detectron2 lists candidates.
    flat = scores[:, :-1].reshape(-1)

    def region_of(positions: Tensor) -> Tensor:
        return torch.div(positions, num_classes, rounding_mode="floor")

    def clipped_boxes(positions: Tensor) -> Tensor:
        boxes = Boxes(boxes_at(region_of(positions), positions % num_classes))
        boxes.clip(image_shape)
        return boxes.tensor

    keep = batched_nms_best(
        flat,
        score_threshold=score_thresh,
        iou_threshold=nms_thresh,
        limit=topk_per_image,
        classes_of=lambda positions: positions % num_classes,
        boxes_of=clipped_boxes,
        suppression=suppression_of(flat.device),
    )
    result = Instances(image_shape)
    result.pred_boxes = Boxes(clipped_boxes(keep))
    result.scores = flat[keep]
    result.pred_classes = keep % num_classes
    return result, region_of(keep)
