"""RetinaNet with any sigmoid-kind loss of the loss table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import configurable, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.build import build_criterion, build_prior
from lt_det.modeling.classifiers.build_posthoc import build_post_hoc
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.dense.losses import DenseLosses, Normalizer
from lt_det.modeling.postprocessing.dense import DenseInference


@META_ARCH_REGISTRY.register()
class LongTailRetinaNet(DenseLosses, DenseInference, RetinaNet):
    """:class:`RetinaNet` with the loss of LT_DET.LOSS."""

    classification_loss = "loss_cls"

    @configurable
    def __init__(
        self,
        *,
        criterion: BaseCriterion,
        normalizer: Normalizer = "global",
        prior_counts: Tensor | Sequence[float] | None = None,
        fast_inference: bool | None = None,
        post_hoc: PostHocCorrection | None = None,
        **kwargs: Any,
    ) -> None:
        """Build Detectron2's model and hold ``criterion``.

        Args:
            criterion: loss of kind "sigmoid".
            normalizer: see :class:`~lt_det.modeling.dense.losses.DenseLosses`.
            prior_counts: as there.
            fast_inference: see :class:`~lt_det.modeling.postprocessing.dense.DenseInference`.
            post_hoc: correction of the logits in inference, the same for all anchors.
            kwargs: see :class:`RetinaNet`; its focal_loss_* have no effect.

        Raises:
            ValueError: as there.
        """
        super().__init__(
            criterion=criterion, normalizer=normalizer, prior_counts=prior_counts, **kwargs
        )
        self.fast_inference, self.post_hoc = fast_inference, post_hoc

    def forward_inference(self, images: Any, features: Any, predictions: Any) -> Any:
        """Return the detections of each image, the logits corrected before the threshold."""
        if self.post_hoc is not None:
            levels, *others = predictions
            corrected = [self._corrected(level, self.post_hoc) for level in levels]
            predictions = [corrected, *others]
        return super().forward_inference(images, features, predictions)

    def _corrected(self, logits: Tensor, post_hoc: PostHocCorrection) -> Tensor:
        """Return ``(N, A * K, H, W)`` logits of one level, anchors outside and classes inside."""
        by_class = logits.unflatten(1, (-1, self.num_classes)).movedim(2, -1)
        found = post_hoc(by_class.flatten(0, -2), self.head.cls_score, background=False)
        return found.view(by_class.shape).movedim(-1, 2).flatten(1, 2)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Read Detectron2's keys, LT_DET.LOSS, PRIOR, RETINANET, POST_HOC, FAST_INFERENCE.

        The mean prior is MODEL.RETINANET.PRIOR_PROB.

        Raises:
            ValueError: if the focal loss is configured where Detectron2's model has it, or a
                post-hoc correction that is not for dense detectors.
        """
        defaults = get_cfg().MODEL.RETINANET
        for name in ("FOCAL_LOSS_ALPHA", "FOCAL_LOSS_GAMMA"):
            if cfg.MODEL.RETINANET[name] != defaults[name]:
                raise ValueError(
                    f"MODEL.RETINANET.{name} is of Detectron2's RetinaNet and not read here: set "
                    f"LT_DET.LOSS_PARAMS.FOCAL.{name.split('_')[-1]} (or that of another "
                    "LT_DET.LOSS) instead"
                )
        for name in ("TAU_NORM", "LOGN"):
            if cfg.LT_DET.POST_HOC[name]:
                raise ValueError(
                    f"LT_DET.POST_HOC.{name} would do nothing to LongTailRetinaNet, whose "
                    "classifier is a convolution over anchors: take LOGIT_ADJUSTMENT or FRACAL"
                )
        return {
            **super().from_config(cfg),
            "criterion": build_criterion(cfg),
            "prior_counts": build_prior(cfg)["prior_counts"],
            "normalizer": cfg.LT_DET.RETINANET.NORMALIZER,
            "fast_inference": cfg.LT_DET.FAST_INFERENCE,
            "post_hoc": build_post_hoc(cfg),
        }
