"""Classify images with any Detectron2 backbone and any loss of the loss table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.build import build_criterion, build_prior
from lt_det.modeling.classifiers.build_posthoc import build_post_hoc
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.classifiers.disalign import DisAlignClassifier
from lt_det.modeling.classifiers.layers import build_image_classifier, set_prior_bias
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.tasks import ImageClassification

Batch = Sequence[Mapping[str, Any]]


@META_ARCH_REGISTRY.register()
class LongTailImageClassifier(ClassificationHead):
    """Backbone, global average pooling, classifier ``cls_score`` and criterion.

    Shape shorthand: B images, D features, K classes; there is no background.

    Attributes:
        task: what the model is for, see :func:`lt_det.tasks.build_task`.
    """

    task = ImageClassification

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        cls_score: nn.Module,
        criterion: BaseCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        feature: str | None = None,
        post_hoc: PostHocCorrection | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: its map ``feature`` is pooled.
            cls_score: ``(B, D) -> (B, K)`` logits.
            criterion: softmax kind on K logits, or sigmoid kind on one-hot targets.
            pixel_mean: of the channels, in the units of the input (0 to 255).
            pixel_std: likewise.
            feature: name of the map; None for the coarsest.
            post_hoc: correction of the logits in evaluation.

        Raises:
            ValueError: if the backbone has no such map.
        """
        super().__init__()
        shapes = backbone.output_shape()
        if feature is None:
            feature = max(shapes, key=lambda name: shapes[name].stride)
        if feature not in shapes:
            raise ValueError(
                f"LT_DET.CLASSIFICATION.FEATURE {feature!r} is no map of the backbone; it has "
                f"{sorted(shapes)}"
            )
        self.backbone, self.cls_score, self.criterion = backbone, cls_score, criterion
        self.feature, self.post_hoc = feature, post_hoc
        # Any classifier will do: one that does not say its columns shows them at the first batch.
        columns: Any = getattr(cls_score, "out_features", None)
        if columns is not None:
            others = criterion.extra_columns(background=False)
            criterion.fit_head(int(columns) - len(others), background=False)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            # Not persistent, as in Detectron2: they belong to the config.
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Return the arguments of ``__init__`` that ``cfg`` says."""
        backbone = build_backbone(cfg)
        node = cfg.LT_DET.CLASSIFICATION
        shapes = backbone.output_shape()
        feature = node.FEATURE or max(shapes, key=lambda name: shapes[name].stride)
        criterion = build_criterion(cfg)
        cls_score = build_image_classifier(
            cfg.LT_DET.CLASSIFIER.NAME,
            shapes[feature].channels if feature in shapes else 1,
            cls.task.from_config(cfg).num_classes(),
            bias=cfg.LT_DET.CLASSIFIER.BIAS,
            scale=cfg.LT_DET.CLASSIFIER.SCALE,
        )
        if cfg.LT_DET.CLASSIFIER.DISALIGN:
            classes = cls.task.from_config(cfg).num_classes()
            cls_score = DisAlignClassifier(cls_score, num_classes=classes)
        bias = getattr(cls_score, "bias", None)
        if criterion.kind == "sigmoid" and bias is not None:
            set_prior_bias(bias, **build_prior(cfg), logit_of=criterion.logit_of)
        return {
            "backbone": backbone,
            "cls_score": cls_score,
            "criterion": criterion,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "feature": feature,
            "post_hoc": build_post_hoc(cfg),
        }

    @property
    def device(self) -> torch.device:
        """Where images go."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Batch) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return ``{"loss_cls": scalar}`` in training, in evaluation one dict for each image.

        Args:
            batched_inputs: B dicts with "image", ``(3, H, W)`` of one size, and in training
                "category_id".

        Returns:
            In evaluation "scores" ``(K,)``, probabilities, and "logits" ``(K,)``, both float32.
        """
        logits = self.logits(self.images(batched_inputs))
        if self.training:
            labels = self.labels(batched_inputs)
            ones = [1] * len(batched_inputs)
            return {"loss_cls": self.classification_loss(logits, labels, regions_per_image=ones)}
        return self.predictions(self.inference_logits(logits))

    def predictions(self, logits: Tensor) -> list[dict[str, Tensor]]:
        """Return "scores" ``(K,)`` and "logits" ``(K,)`` of each image, both float32.

        Args:
            logits: ``(B, K)``.
        """
        logits = logits.float()
        scores = self.criterion.scores(logits)
        return [{"scores": s, "logits": z} for s, z in zip(scores, logits)]

    def images(self, batched_inputs: Batch) -> Tensor:
        """Return the normalised images ``(B, 3, H, W)``."""
        images = torch.stack([x["image"] for x in batched_inputs]).to(self.device)
        return (images.float() - self.pixel_mean) / self.pixel_std

    def logits(self, images: Tensor) -> Tensor:
        """Return ``(B, K)`` logits of normalised images: pooled features, ``cls_score``."""
        return self.cls_score(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features ``(B, D)`` of normalised images."""
        return self.backbone(images)[self.feature].mean(dim=(2, 3))

    def labels(self, batched_inputs: Batch) -> Tensor:
        """Return the ``(B,)`` int64 labels."""
        return torch.tensor([x["category_id"] for x in batched_inputs], device=self.device)


class ImageLogits(nn.Module):
    """An image classifier as a module from normalised images ``(B, 3, H, W)`` to logits."""

    def __init__(self, model: LongTailImageClassifier) -> None:
        """Share all parameters and buffers of ``model``."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, K)`` logits."""
        return self.model.logits(images)
