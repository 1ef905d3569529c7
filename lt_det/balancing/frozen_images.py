"""Record what a detector computes of a test image up to its classifiers, which stays the same.

Shape shorthand: R regions of the image, D features, S stages (one, or those of a cascade).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor, nn

from lt_det.engine.regions.store import ImageRegions
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from lt_det.modeling.roi.roi_heads import (
    LongTailCascadeROIHeads,
    LongTailRes5ROIHeads,
    LongTailROIHeads,
)

_HEADS = (
    *(StandardROIHeads, CascadeROIHeads, Res5ROIHeads),
    *(LongTailROIHeads, LongTailCascadeROIHeads, LongTailRes5ROIHeads),
)
_PREDICTORS = (FastRCNNOutputLayers, SoftmaxOutputLayers, SigmoidOutputLayers)


@dataclass(frozen=True)
class FrozenImage:
    """Input of the classifiers of one test image, and what its boxes are decoded from.

    Attributes:
        features: for each stage ``(R, D)`` float32.
        boxes: for each stage the ``(R, 4)`` float32 boxes of the regions, xyxy in input pixels.
        input_size: (height, width) of what the detector saw.
        output_size: (height, width) of the image that the detections are for.
    """

    features: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    input_size: tuple[int, int]
    output_size: tuple[int, int]

    def record(self) -> ImageRegions:
        """Return it as a record of a region store: features, then boxes, then the sizes."""
        sizes = torch.tensor([[*self.input_size, *self.output_size]], dtype=torch.float32)
        columns = [*self.features, *self.boxes, sizes]
        return [(c, torch.zeros(len(c), dtype=torch.int64)) for c in columns]

    @classmethod
    def of_record(cls, record: ImageRegions) -> FrozenImage:
        """Return the image of which :meth:`record` gave ``record``."""
        *columns, (sizes, _) = record
        # Copied: what is read from a file may lie anywhere in memory, and products of matrices
        # differ in the last bits with the place.
        tensors = [values.clone() for values, _ in columns]
        stages = len(tensors) // 2
        h, w, height, width = (int(n) for n in sizes[0].tolist())
        return cls(tuple(tensors[:stages]), tuple(tensors[stages:]), (h, w), (height, width))


def box_stages(model: nn.Module) -> list[Any]:
    """Return the box predictors of a detector: one, or one a stage.

    Raises:
        ValueError: if they are not Detectron2's or this package's with a linear classifier; says
            what is there.
    """
    heads: Any = getattr(model, "roi_heads", None)
    if type(heads) not in _HEADS:
        raise ValueError(
            f"MODEL.META_ARCHITECTURE {type(model).__name__} has "
            f"{'no ROI heads' if heads is None else type(heads).__name__}: balance knows Standard, "
            "Cascade and Res5 ROI heads of Detectron2 and of lt_det. For all models there is "
            "LT_DET.POST_HOC"
        )
    found = heads.box_predictor
    stages = list(found) if isinstance(found, nn.ModuleList) else [found]
    for stage in stages:
        classifier = getattr(stage, "cls_score", None)
        if type(stage) not in _PREDICTORS or type(classifier) is not nn.Linear:
            raise ValueError(
                f"the box predictor {type(stage).__name__} with the classifier "
                f"{type(classifier).__name__} cannot be replayed: balance knows "
                "FastRCNNOutputLayers and those of lt_det with LT_DET.CLASSIFIER.NAME 'linear'"
            )
        if getattr(stage, "post_hoc", None) is not None:
            raise ValueError(
                "LT_DET.POST_HOC is set: balance tries corrections of its own on the model as it "
                "was trained; set them to 0"
            )
    return stages


class _Tap:
    """What the predictors of a detector saw in the last forward of one image."""

    def __init__(self, model: Any) -> None:
        self.features: list[Tensor] = []
        self.boxes: list[Tensor] = []
        self.size: tuple[int, int] = (0, 0)
        self._model, self._stages = model, box_stages(model)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen, and leave out masks and key points, which play no part."""
        heads = self._model.roi_heads
        had = {key: heads.__dict__.get(key) for key in ("mask_on", "keypoint_on")}
        handles = [stage.register_forward_pre_hook(self._see_features) for stage in self._stages]
        cascade = isinstance(heads, CascadeROIHeads)
        owner, name = (heads, "_run_stage") if cascade else (self._stages[0], "inference")
        own = getattr(owner, name)

        def seen(first: Any, proposals: Any, *rest: Any) -> Any:
            self.boxes.append(proposals[0].proposal_boxes.tensor)
            self.size = proposals[0].image_size
            return own(first, proposals, *rest)

        try:
            for key, value in had.items():
                if value is not None:
                    setattr(heads, key, False)
            owner.__dict__[name] = seen
            yield
        finally:
            del owner.__dict__[name]
            for handle in handles:
                handle.remove()
            for key, value in had.items():
                if value is not None:
                    setattr(heads, key, value)

    def _see_features(self, _module: nn.Module, inputs: tuple) -> None:
        self.features.append(inputs[0].flatten(1))


@torch.no_grad()
def frozen_image(model: nn.Module, sample: dict) -> tuple[FrozenImage, Any]:
    """Return the frozen part of one test image, and the boxes that the detector finds in it.

    Args:
        model: detector in evaluation mode; nothing of it is changed.
        sample: what a test loader's mapper returns.

    Raises:
        ValueError: if the detector cannot be replayed.
    """
    tap = _Tap(model)
    with tap.listening():
        (output,) = model([sample])
    height, width = sample.get("height", tap.size[0]), sample.get("width", tap.size[1])
    frozen = FrozenImage(
        tuple(f.float().cpu() for f in tap.features),
        tuple(b.float().cpu() for b in tap.boxes),
        tap.size,
        (int(height), int(width)),
    )
    return frozen, output["instances"]
