"""Find the detections of other classifiers of a dense detector (RetinaNet, FCOS).

What comes before the last convolution is computed once an image and held, not kept on disk: its
features are larger than the image. So all candidates are evaluated in one pass.

Shape shorthand: A anchors a place (FCOS: 1), K classes, D inputs of the last convolution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor, nn

from lt_det.balancing.replay import Classifiers, PostProcessing

#: Where the classifier of a dense detector is.
CLASSIFIER = "head.cls_score"


def is_dense(model: nn.Module) -> bool:
    """Return whether ``model`` is a dense detector whose classifier can be exchanged."""
    classifier = getattr(getattr(model, "head", None), "cls_score", None)
    return type(classifier) is nn.Conv2d and hasattr(model, "forward_inference")


class DenseReplay:
    """The part of a dense detector that comes with and after its last convolution."""

    kind = "sigmoid"

    def __init__(self, model: Any) -> None:
        """Hold ``model``, in evaluation mode; nothing of it is changed.

        Raises:
            ValueError: if it corrects its logits already.
        """
        if getattr(model, "post_hoc", None) is not None:
            raise ValueError(
                "LT_DET.POST_HOC is set: balance tries corrections of its own on the model as it "
                "was trained; set them to 0"
            )
        self._model, self._layer = model, model.head.cls_score
        self.own = PostProcessing(float(model.test_score_thresh), float(model.test_nms_thresh))
        self.limit = int(model.max_detections_per_image)

    def own_classifiers(self) -> list[tuple[Tensor, Tensor]]:
        """Return copies of the classifiers, ``(K, D)`` and ``(K,)``: one for each anchor."""
        weight, bias = (p.detach().cpu().clone() for p in self._layer.parameters())
        anchors = len(bias) // self._model.num_classes
        return list(zip(weight.flatten(1).chunk(anchors), bias.chunk(anchors)))

    def state(self, classifiers: Classifiers) -> dict[str, Tensor]:
        """Return the entries of a checkpoint that these classifiers are."""
        weight = torch.cat([weight for weight, _ in classifiers]).view_as(self._layer.weight)
        bias = torch.cat([bias for _, bias in classifiers])
        return {f"{CLASSIFIER}.weight": weight, f"{CLASSIFIER}.bias": bias}

    @torch.no_grad()
    def image(self, sample: dict) -> Callable[..., list[Instances]]:
        """Return what finds the detections of an image; what it needs is computed here, once.

        Args:
            sample: what a test loader's mapper returns.
        """
        model = self._model
        images = model.preprocess_image([sample])
        features = model.backbone(images.tensor)
        features = [features[name] for name in model.head_in_features]
        inputs: list[Tensor] = []
        handle = self._layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        try:
            _, *others = model.head(features)
        finally:
            handle.remove()
        size = images.image_sizes[0]
        output_size = (int(sample.get("height", size[0])), int(sample.get("width", size[1])))

        @torch.no_grad()
        def detections(
            classifiers: Classifiers, settings: Sequence[PostProcessing]
        ) -> list[Instances]:
            weight, bias = (p.to(self._layer.weight) for p in self.state(classifiers).values())
            logits = [
                F.conv2d(x, weight, bias, self._layer.stride, self._layer.padding) for x in inputs
            ]
            found = []
            for setting in settings:
                # Copies: FCOS computes in place.
                predictions = [[x.clone() for x in part] for part in (logits, *others)]
                with self._limited(setting):
                    (instances,) = model.forward_inference(images, features, predictions)
                found.append(detector_postprocess(instances, *output_size).to("cpu"))
            return found

        return detections

    @contextlib.contextmanager
    def _limited(self, setting: PostProcessing) -> Iterator[None]:
        self._limit_to(setting)
        try:
            yield
        finally:
            self._limit_to(self.own)

    def _limit_to(self, setting: PostProcessing) -> None:
        self._model.test_score_thresh = setting.score_threshold
        self._model.test_nms_thresh = setting.nms_threshold
