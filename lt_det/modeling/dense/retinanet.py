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
        **kwargs: Any,
    ) -> None:
        """Build Detectron2's model and hold ``criterion``.

        Args:
            criterion: loss of kind "sigmoid".
            normalizer: see :class:`~lt_det.modeling.dense.losses.DenseLosses`.
            prior_counts: as there.
            fast_inference: see :class:`~lt_det.modeling.postprocessing.dense.DenseInference`.
            kwargs: see :class:`RetinaNet`; its focal_loss_* have no effect.

        Raises:
            ValueError: as there.
        """
        super().__init__(
            criterion=criterion, normalizer=normalizer, prior_counts=prior_counts, **kwargs
        )
        self.fast_inference = fast_inference

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Read Detectron2's keys, LT_DET.LOSS, PRIOR, RETINANET and FAST_INFERENCE.

        The mean prior is MODEL.RETINANET.PRIOR_PROB.

        Raises:
            ValueError: if the focal loss is configured where Detectron2's model has it.
        """
        defaults = get_cfg().MODEL.RETINANET
        for name in ("FOCAL_LOSS_ALPHA", "FOCAL_LOSS_GAMMA"):
            if cfg.MODEL.RETINANET[name] != defaults[name]:
                raise ValueError(
                    f"MODEL.RETINANET.{name} is of Detectron2's RetinaNet and not read here: set "
                    f"LT_DET.LOSS_PARAMS.FOCAL.{name.split('_')[-1]} (or that of another "
                    "LT_DET.LOSS) instead"
                )
        return {
            **super().from_config(cfg),
            "criterion": build_criterion(cfg),
            "prior_counts": build_prior(cfg)["prior_counts"],
            "normalizer": cfg.LT_DET.RETINANET.NORMALIZER,
            "fast_inference": cfg.LT_DET.FAST_INFERENCE,
        }
