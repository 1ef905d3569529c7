"""Patch the models of foreign configs where LT_DET.PATCH says so."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from lt_det.modeling.build import build_criterion
from lt_det.modeling.classifiers.build_posthoc import build_post_hoc
from lt_det.modeling.image_lists import has_lists, honour_lists
from lt_det.modeling.patching.box_heads import PatchedBoxHead
from lt_det.modeling.patching.loss import check_fits, fit
from lt_det.modeling.patching.patch import PatchedHead, find_heads

logger = logging.getLogger(__name__)

#: Keys of the heads of this package that a patch does not have.
_OF_OUR_HEADS = ("CLASSIFIER", "PRIOR", "PRIOR_PROB", "FAST_BOX_REGRESSION")


def patch_from_config(cfg: Any, model: nn.Module, *, defaults: CfgNode) -> nn.Module:
    """Return ``model``, with LT_DET.PATCH its heads have the loss of the config.

    Heads of this package have it already. Image lists reach the losses of both. Post-hoc
    corrections apply too, and, where the model has Detectron2's post-processing,
    LT_DET.FAST_INFERENCE True. Class counts are read at the first training batch.

    Args:
        cfg: config.
        model: built from it.
        defaults: the node LT_DET without changes.

    Raises:
        ValueError: if a key of this package's own heads is set, which would do nothing; else as
            :func:`lt_det.modeling.patching.patch`.
    """
    if not cfg.LT_DET.PATCH:
        return _with_lists(model)
    found = [head for head in find_heads(model) if not isinstance(head, PatchedHead)]
    if not found:
        return _with_lists(model)
    changed = [f"LT_DET.{key}" for key in _OF_OUR_HEADS if cfg.LT_DET[key] != defaults[key]]
    if changed:
        raise ValueError(
            f"{' and '.join(changed)} would do nothing with LT_DET.PATCH True, which keeps the "
            f"predictors of {type(model).__name__}: leave the defaults, or name heads of lt_det "
            "(MODEL.ROI_HEADS.NAME LongTailROIHeads) and set PATCH False"
        )
    criterion = build_criterion(cfg)
    for head in found:
        check_fits(criterion, head.logits)
    # Before any head is changed: the stages of a cascade share what is looked at.
    reasons = [head.why_own_post_processing() for head in found]
    for stage, (head, reason) in enumerate(zip(found, reasons)):
        fit(criterion, head.logits)
        head.take(criterion)
        post_hoc = build_post_hoc(cfg, stage=stage)
        if post_hoc is not None and isinstance(head, PatchedBoxHead):
            head.correct(post_hoc)
        if cfg.LT_DET.FAST_INFERENCE and not reason:
            head.take_post_processing()
        note = f"; post-processing stays as it is: {reason}" if reason else ""
        logger.info("LT_DET.PATCH: loss %s in %s%s", criterion.name, head.logits.where, note)
    return _with_lists(model)


def _with_lists(model: nn.Module) -> nn.Module:
    return honour_lists(model) if has_lists(model) else model
