"""FCOS with any sigmoid-kind loss of the loss table."""

from __future__ import annotations

from detectron2.modeling.meta_arch.fcos import FCOS

from lt_det.modeling.dense.losses import DenseLosses
from lt_det.modeling.postprocessing.dense import DenseInference


class LongTailFCOS(DenseLosses, DenseInference, FCOS):
    """:class:`FCOS` with another classification loss; for LazyConfig only, as Detectron2's.

    Arguments are those of :class:`FCOS`, whose focal_loss_* have no effect, and of
    :class:`~lt_det.modeling.dense.losses.DenseLosses`.
    """

    classification_loss = "loss_fcos_cls"
