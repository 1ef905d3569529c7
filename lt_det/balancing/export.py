"""Write a detector with other classifiers as a checkpoint and config of plain Detectron2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from lt_det.balancing.dense_replay import DenseReplay
from lt_det.balancing.replay import Classifiers, PostProcessing, Replay
from lt_det.storage.atomic_write import atomic_file

#: This package's heads -> Detectron2's.
_STOCK = {
    "LongTailROIHeads": "StandardROIHeads",
    "LongTailCascadeROIHeads": "CascadeROIHeads",
    "LongTailRes5ROIHeads": "Res5ROIHeads",
    "LongTailRetinaNet": "RetinaNet",
    "LongTailMaskHead": "MaskRCNNConvUpsampleHead",
}
# Bias of a column that no detection is made of: its score is 0.
_NEVER = -100.0


class Written(NamedTuple):
    """A checkpoint, whether plain Detectron2 loads it, and the model that was built from it."""

    path: Path
    is_plain: bool
    model: nn.Module


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
    heads, mask, dense = plain.MODEL.ROI_HEADS, plain.MODEL.ROI_MASK_HEAD, plain.MODEL.RETINANET
    ours = heads.NAME in _STOCK
    architecture = plain.MODEL.META_ARCHITECTURE
    plain.MODEL.META_ARCHITECTURE = _STOCK.get(architecture, architecture)
    dense.SCORE_THRESH_TEST, dense.NMS_THRESH_TEST = setting.score_threshold, setting.nms_threshold
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
    replay: Replay | DenseReplay,
    classifiers: Classifiers,
    setting: PostProcessing,
) -> Written:
    """Write ``balanced.pth`` and ``balanced.yaml``.

    The corrections are in the weights of the classifiers, the limits in the config. The checkpoint
    is loaded into the model of that config before the function returns.

    Args:
        folder: where to.
        cfg: of the detector.
        model: the detector; not changed.
        replay: of it.
        classifiers: for each stage, or anchor.
        setting: limits of the detections.

    Raises:
        RuntimeError: if the config builds a model that the weights do not fit.
    """
    path = folder.absolute() / "balanced.pth"
    plain, is_plain = plain_config(cfg, setting, kind=replay.kind, weights=str(path))
    built = build_model(plain)
    wanted = built.state_dict()
    state = dict(model.state_dict())
    exchanged = replay.state(classifiers)
    for name, value in exchanged.items():
        state[name] = _with_rows(value, len(wanted[name]), bias=name.endswith("bias"))
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
    return Written(path, is_plain, built.eval())


def _with_rows(value: Tensor, rows: int, *, bias: bool) -> Tensor:
    """Return weight or bias with a row for the background where Detectron2 wants one."""
    if rows == len(value) + 1:
        value = torch.cat([value, value.new_full((1, *value.shape[1:]), _NEVER if bias else 0.0)])
    return value
