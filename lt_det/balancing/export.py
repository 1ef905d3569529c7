"""Write a detector with other classifiers as a checkpoint and config of plain Detectron2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from lt_det.balancing.frozen_images import box_stages
from lt_det.balancing.replay import Classifiers, PostProcessing
from lt_det.storage.atomic_write import atomic_file

#: This package's heads -> Detectron2's.
_STOCK = {
    "LongTailROIHeads": "StandardROIHeads",
    "LongTailCascadeROIHeads": "CascadeROIHeads",
    "LongTailRes5ROIHeads": "Res5ROIHeads",
    "LongTailMaskHead": "MaskRCNNConvUpsampleHead",
}
# Bias of a column that no detection is made of: its score is 0.
_NEVER = -100.0


def plain_config(cfg: Any, setting: PostProcessing, *, kind: str, weights: str) -> tuple[Any, bool]:
    """Return the config of plain Detectron2, and whether it can do without this package.

    It needs this package for backbones of this package only; its keys are kept then.

    Args:
        cfg: of the detector.
        setting: limits of the detections.
        kind: "softmax" or "sigmoid".
        weights: path of the checkpoint.
    """
    plain = CfgNode(cfg.clone())
    plain.defrost()
    heads, mask = plain.MODEL.ROI_HEADS, plain.MODEL.ROI_MASK_HEAD
    ours = heads.NAME in _STOCK
    heads.NAME, mask.NAME = _STOCK.get(heads.NAME, heads.NAME), _STOCK.get(mask.NAME, mask.NAME)
    heads.SCORE_THRESH_TEST, heads.NMS_THRESH_TEST = setting.score_threshold, setting.nms_threshold
    if ours and kind == "sigmoid":
        plain.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = True
    plain.MODEL.WEIGHTS = weights
    plain.OUTPUT_DIR = os.path.join(os.path.dirname(weights), "inference_plain")
    is_plain = "lt_det" not in plain.MODEL.BACKBONE.NAME
    if is_plain:
        del plain["LT_DET"]
    else:
        plain.LT_DET.PATCH = plain.LT_DET.DECOUPLED = False
        plain.LT_DET.META.ENABLED = plain.LT_DET.REGION_CACHE.ENABLED = False
    plain.freeze()
    return plain, is_plain


def write_balanced(
    folder: Path,
    cfg: Any,
    model: nn.Module,
    classifiers: Classifiers,
    setting: PostProcessing,
    *,
    kind: str,
) -> tuple[Path, bool]:
    """Write ``balanced.pth`` and ``balanced.yaml``; return the former, and whether both are plain.

    The corrections are in the weights of the classifiers, the limits in the config. The checkpoint
    is loaded into the model of that config before the function returns.

    Args:
        folder: where to.
        cfg: of the detector.
        model: the detector; not changed.
        classifiers: for each stage.
        setting: limits of the detections.
        kind: "softmax" or "sigmoid".

    Raises:
        RuntimeError: if the config builds a model that the weights do not fit.
    """
    path = folder.absolute() / "balanced.pth"
    plain, is_plain = plain_config(cfg, setting, kind=kind, weights=str(path))
    built = build_model(plain)
    wanted = built.state_dict()
    state = dict(model.state_dict())
    names = {id(module): name for name, module in model.named_modules()}
    for stage, (weight, bias) in zip(box_stages(model), classifiers):
        prefix = f"{names[id(stage)]}.cls_score"
        rows = wanted[f"{prefix}.weight"].shape[0]
        state[f"{prefix}.weight"], state[f"{prefix}.bias"] = _with_rows(weight, bias, rows)
    kept = {k: v.detach().cpu().clone() for k, v in state.items() if k in wanted}
    built.load_state_dict(kept)  # strict: nothing is missing, all shapes fit
    with atomic_file(path, "wb") as file:
        torch.save({"model": kept, "__author__": "lt_det balance"}, file)
    note = (
        "# Plain Detectron2: get_cfg() reads it; register DATASETS.TEST before an evaluation."
        if is_plain
        else "# Needs lt_det for MODEL.BACKBONE.NAME; all else is plain Detectron2."
    )
    with atomic_file(folder / "balanced.yaml") as file:
        file.write(f"{note}\n{plain.dump()}")
    return path, is_plain


def _with_rows(weight: Tensor, bias: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the classifier with a column for the background where Detectron2 wants one."""
    if rows == len(weight) + 1:
        weight = torch.cat([weight, weight.new_zeros(1, weight.shape[1])])
        bias = torch.cat([bias, bias.new_full((1,), _NEVER)])
    return weight, bias
