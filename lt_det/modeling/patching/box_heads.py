"""Patch box predictors of any project with a loss of this package."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor, nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.patching.loss import Logits
from lt_det.modeling.patching.overrides import Patch
from lt_det.modeling.patching.probe import Findings, classification_key, try_predictor
from lt_det.modeling.postprocessing.roi import cascade_detections, predict_detections


class ForwardLogits(nn.Module):
    """A whole box predictor as a classifier: features to logits.

    For predictors whose logits no single layer gives. Its parameters are those that the logits
    depend on.
    """

    def __init__(self, predictor: nn.Module, findings: Findings) -> None:
        """Share the predictor."""
        super().__init__()
        self.predictor, self._index = predictor, findings.index
        self._names = frozenset(f"predictor.{name}" for name in findings.parameters)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters that the logits depend on."""
        for name, parameter in super().named_parameters(*args, **kwargs):
            if name in self._names:
                yield name, parameter

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of ``(R, ...)`` features."""
        predictions = self.predictor(features)
        return predictions if self._index is None else predictions[self._index]


class PatchedBoxHead(Patch, ClassificationHead):
    """Patch of a box predictor: replaces its classification loss.

    Stage 2, the Meta Reweighter and the region cache see it as a head of this package.
    """

    _predictor: Any
    _heads: Any
    _classifier: nn.Module

    def __init__(
        self, predictor: nn.Module, findings: Findings, logits: Logits, *, heads: nn.Module
    ) -> None:
        """Describe ``predictor``; :meth:`take` changes it.

        Args:
            predictor: of anybody.
            findings: of :func:`~lt_det.modeling.patching.probe.try_predictor`.
            logits: that it gives.
            heads: the ROI heads that have it.
        """
        super().__init__()
        self.logits, self._findings = logits, findings
        self.has_background = logits.columns > logits.num_classes
        classifier: nn.Module = ForwardLogits(predictor, findings)
        if findings.classifier:
            layer = predictor.get_submodule(findings.classifier)
            used = {id(predictor.get_parameter(name)) for name in findings.parameters}
            if all(id(parameter) in used for parameter in layer.parameters()):
                classifier = layer
        # Not registered: they are children of the model already.
        self.__dict__.update(_predictor=predictor, _heads=heads, _classifier=classifier)
        self._seen: Any = None

    @property
    def cls_score(self) -> nn.Module:  # type: ignore[override]
        """The layer that gives the logits, or the whole predictor as one."""
        return self._classifier

    @property
    def feature_module(self) -> nn.Module:
        """The module whose input is that of :attr:`cls_score`."""
        return self._predictor if isinstance(self._classifier, ForwardLogits) else self._classifier

    @property
    def loss_weight(self) -> Mapping[str, float]:  # type: ignore[override]
        """Factors of the losses that the predictor was built with."""
        weight = getattr(self._predictor, "loss_weight", {})
        return weight if isinstance(weight, Mapping) else {}

    def trained_columns(self, logits: Tensor) -> Tensor:
        """Return the columns that the loss is of: a sigmoid has none for the background.

        Raises:
            ValueError: if the predictor gives another number of columns than when it was patched.
        """
        if logits.shape[1] != self.logits.columns:
            raise ValueError(
                f"{self.logits.where} gives {logits.shape[1]} columns, {self.logits.columns} when "
                "it was patched: classifiers that change with the batch are not supported"
            )
        return logits[:, : self.logits.num_classes] if self.criterion.kind == "sigmoid" else logits

    def take(self, criterion: BaseCriterion) -> None:
        """Put ``criterion`` in the place of the predictor's own classification loss."""
        self.criterion = criterion
        self.attach(self._predictor)
        if self._findings.loss_key is not None:
            self.override(self._predictor, "losses", self.losses)
        else:
            # The losses are computed in the heads, from what the predictor gives.
            self.override(self._predictor, "forward", self._see_predictions)
            self.override(self._heads, "_forward_box", self._forward_box)

    def losses(self, predictions: Any, proposals: Any, *args: Any, **kwargs: Any) -> dict:
        """Return the predictor's own losses, the classification loss replaced."""
        own = self.own(self._predictor, "losses")(predictions, proposals, *args, **kwargs)
        return self._replaced(own, predictions, proposals)

    def _replaced(self, own: Any, predictions: Any, proposals: Any) -> dict:
        key = classification_key(own, where=self.logits.where)
        index = self._findings.index
        logits = predictions if index is None else predictions[index]
        loss = self.classification_loss(
            logits,
            torch.cat([p.gt_classes for p in proposals]),
            regions_per_image=[len(p) for p in proposals],
        )
        return {**own, key: loss}

    def _see_predictions(self, *args: Any, **kwargs: Any) -> Any:
        predictions = self.own(self._predictor, "forward")(*args, **kwargs)
        self._seen = predictions if self.training else None
        return predictions

    def _forward_box(self, features: Any, proposals: Any, *args: Any, **kwargs: Any) -> Any:
        result = self.own(self._heads, "_forward_box")(features, proposals, *args, **kwargs)
        seen, self._seen = self._seen, None
        if not self.training:
            return result
        return self._replaced(result, seen, proposals)

    def correct(self, post_hoc: PostHocCorrection) -> None:
        """Correct the logits before the predictor's own ``predict_probs``."""
        self.post_hoc = post_hoc
        self.override(self._predictor, "predict_probs", self._predict_probs)

    def _predict_probs(self, predictions: Any, proposals: Any, *args: Any, **kwargs: Any) -> Any:
        index = self._findings.index
        if index is None:
            predictions = self.inference_logits(predictions)
        else:
            corrected = self.inference_logits(predictions[index])
            predictions = type(predictions)(
                corrected if i == index else p for i, p in enumerate(predictions)
            )
        return self.own(self._predictor, "predict_probs")(predictions, proposals, *args, **kwargs)

    def why_own_post_processing(self) -> str:
        """Return why this package's post-processing cannot take its place, or ""."""
        if isinstance(self._heads, CascadeROIHeads):
            theirs = _code(self._heads, "_forward_box") is not CascadeROIHeads._forward_box
            return f"{type(self._heads).__name__} has its own _forward_box" if theirs else ""
        theirs = _code(self._predictor, "inference") is not FastRCNNOutputLayers.inference
        return f"{type(self._predictor).__name__} has its own inference" if theirs else ""

    def take_post_processing(self) -> None:
        """Find detections by this package's post-processing."""
        if not isinstance(self._heads, CascadeROIHeads):
            call = functools.partial(predict_detections, self._predictor)
            self.override(self._predictor, "inference", call)
        elif _code(self._heads, "_forward_box") is CascadeROIHeads._forward_box:
            self.override(self._heads, "_forward_box", self._cascade)

    def _cascade(self, features: Any, proposals: Any, targets: Any = None) -> Any:
        if self._heads.training:
            return self.own(self._heads, "_forward_box")(features, proposals, targets)
        return cascade_detections(self._heads, features, proposals)


def _code(owner: Any, name: str) -> Any:
    """Return the function that ``owner.name`` runs."""
    value = vars(owner).get(name, getattr(type(owner), name, None))
    return getattr(value, "__func__", value)


def find_box_heads(model: nn.Module) -> list[PatchedBoxHead]:
    """Return a description of each box predictor in the ROI heads of ``model``; change nothing.

    Raises:
        ValueError: if the logits of one cannot be found.
    """
    found: list[PatchedBoxHead] = []
    seen: set[int] = set()
    for name, heads in model.named_modules():
        predictor = heads._modules.get("box_predictor")
        if predictor is None:
            continue
        stages = list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]
        for i, stage in enumerate(stages):
            if isinstance(stage, ClassificationHead) or id(stage) in seen:
                continue
            seen.add(id(stage))
            where = f"{name}.box_predictor" + (f"[{i}]" if len(stages) > 1 else "")
            found.append(_describe(heads, stage, where=f"{type(stage).__name__} ({where})", i=i))
    return found


def _describe(heads: nn.Module, predictor: nn.Module, *, where: str, i: int) -> PatchedBoxHead:
    num_classes = getattr(predictor, "num_classes", getattr(heads, "num_classes", None))
    if not isinstance(num_classes, int):
        raise ValueError(f"{where} and its ROI heads have no num_classes: set it to K, an int")
    findings = try_predictor(
        predictor,
        num_classes=num_classes,
        features=_feature_shapes(heads, predictor, i),
        where=where,
    )
    if findings.loss_key is None and (
        not callable(getattr(heads, "_forward_box", None))
        or isinstance(heads._modules["box_predictor"], nn.ModuleList)
    ):
        raise ValueError(
            f"the classification loss of {where} cannot be found: neither has it a method "
            f"losses(predictions, proposals), nor {type(heads).__name__} a _forward_box around one "
            "predictor"
        )
    logits = Logits(where, num_classes, findings.columns, findings.scoring)
    return PatchedBoxHead(predictor, findings, logits, heads=heads)


def _feature_shapes(heads: nn.Module, predictor: nn.Module, i: int) -> list[tuple[int, ...]]:
    """Return what the features of a region may be like, best guess first."""
    shapes: list[tuple[int, ...]] = []
    box_head = heads._modules.get("box_head")
    box_head = box_head[i] if isinstance(box_head, nn.ModuleList) else box_head
    shape = getattr(box_head, "output_shape", None)
    if shape is not None and getattr(shape, "channels", None):
        sides = (shape.height, shape.width) if shape.height and shape.width else ()
        shapes.append((shape.channels, *sides))
    layers = [m for m in predictor.modules() if isinstance(m, nn.Linear)]
    return shapes + [(size,) for size in dict.fromkeys(layer.in_features for layer in layers)]
