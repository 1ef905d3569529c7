"""Check that a file of weights fits the model, and name its format where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

#: Format -> what some of its keys begin with; the first that fits is named.
_FORMATS = {
    "mmdetection": ("backbone.layer1.", "roi_head.bbox_head", "neck.", "bbox_head.", "rpn_head."),
    "torchvision": ("layer1.0.", "backbone.body.", "roi_heads.box_predictor.cls_score_", "fc."),
    "Detectron (Caffe2)": ("res2_0_branch", "conv1_w"),
}
_HOW = {
    "torchvision": "; Detectron2's tools/convert-torchvision-to-d2.py converts a ResNet",
    "mmdetection": "; detectron2.modeling.mmdet_wrapper runs such models",
    "Detectron (Caffe2)": "; add ?matching_heuristics=True to the path",
}
_NUM_NAMED = 3

NO_FIRST_STAGE = (
    "LT_DET.DECOUPLED trains the classifier of a stage-1 model: set MODEL.WEIGHTS to its "
    "checkpoint (model_final.pth), or run both stages with --stages"
)


def check_weights_fit(
    weights: str, keys: Iterable[str], incompatible: Any, *, model_keys: Iterable[str] = ()
) -> None:
    """Raise if most weights do not fit.

    Args:
        weights: file, for the message.
        keys: names in the file.
        incompatible: what Detectron2's checkpointer says of the load.
        model_keys: names of the model's parameters and buffers, if most of them must be in the
            file (evaluation). Without, most of the file must be in the model (a backbone to start
            from is enough).

    Raises:
        ValueError: with the numbers, the first names, and the file's format where it is known. In
            evaluation one weight of another shape is enough.
    """
    keys, model_keys = list(keys), list(model_keys)
    shapes = [key for key, *_ in incompatible.incorrect_shapes]
    unused = [*incompatible.unexpected_keys, *shapes]
    missing = [*incompatible.missing_keys, *shapes]
    if model_keys and shapes:
        numbers = class_numbers(incompatible) or (
            " Set MODEL.WEIGHTS to weights of this model, or the config to the model of the file"
        )
        raise ValueError(
            f"MODEL.WEIGHTS {weights!r} does not fit the model: {len(shapes)} weights have other "
            f"shapes, first {shapes[:_NUM_NAMED]}, and would stay random.{numbers}"
        )
    if model_keys:
        wrong, total = missing, len(model_keys)
        what = f"{len(wrong)} of {total} weights of the model are not in it, or have other shapes"
    else:
        wrong, total = unused, len(keys)
        what = f"{len(wrong)} of its {total} weights have no place in the model"
    if 2 * len(wrong) <= total:
        return
    kind = _kind(keys)
    raise ValueError(
        f"MODEL.WEIGHTS {weights!r} does not fit the model: {what}, first {wrong[:_NUM_NAMED]}; "
        f"in the file are {keys[:_NUM_NAMED]}.{kind}{class_numbers(incompatible)} Set "
        "MODEL.WEIGHTS to weights of this model, or the config to the model of the file"
    )


def check_start(weights: str, checkpointer: Any, *, second_stage: bool) -> None:
    """Raise if a training cannot start from the weights that were loaded.

    Args:
        weights: file, for the message.
        checkpointer: that has loaded it.
        second_stage: then all weights of the model must be there.

    Raises:
        ValueError: with the number of weights, the first names, and both numbers of classes where
            these differ; else as :func:`check_weights_fit`.
    """
    incompatible = checkpointer.incompatible
    if not second_stage:
        check_weights_fit(weights, checkpointer.keys_of_file, incompatible)
        return
    bad = [*incompatible.missing_keys, *(key for key, *_ in incompatible.incorrect_shapes)]
    if bad:
        raise ValueError(
            f"MODEL.WEIGHTS {weights!r} is not a stage-1 checkpoint of this model: {len(bad)} "
            f"parameters are missing or have another shape, first {bad[:_NUM_NAMED]}."
            f"{_kind(checkpointer.keys_of_file)}{class_numbers(incompatible)}"
        )


def _kind(keys: Iterable[str]) -> str:
    found = format_of(keys)
    return f" It looks like {found}'s format{_HOW[found]}." if found else ""


def format_of(keys: Iterable[str]) -> str:
    """Return the name of the project whose weights have such names; "" if it is not known."""
    keys = list(keys)
    for name, beginnings in _FORMATS.items():
        if name == "mmdetection" and not any(key.startswith(beginnings[1:]) for key in keys):
            continue
        if any(key.startswith(beginnings) for key in keys):
            return name
    return ""


def check_resumed_shapes(checkpoint: str, weights: Mapping[str, Any], model: nn.Module) -> None:
    """Raise if parameters in a checkpoint to resume from have other shapes than the model's.

    Raises:
        ValueError: the optimizer has states of those shapes, too.
    """
    for name, parameter in model.named_parameters():
        found = tuple(weights[name].shape) if name in weights else tuple(parameter.shape)
        if found != tuple(parameter.shape):
            raise ValueError(
                f"the checkpoint to resume from, {checkpoint!r}, is of another training: its "
                f"{name} has the shape {found}, the model's {tuple(parameter.shape)}. Resume with "
                "the config that it was trained with (LT_DET.LOSS says how many columns a "
                "classifier has); a second stage needs an OUTPUT_DIR of its own"
            )


def class_numbers(incompatible: Any) -> str:
    """Return a sentence with both numbers of classes, if classifiers differ in it; else ""."""
    for key, in_file, in_model in incompatible.incorrect_shapes:
        if "cls_score" in key and len(in_file) == len(in_model) and in_file[1:] == in_model[1:]:
            return (
                f" {key} has {in_file[0]} rows in the file and {in_model[0]} in the model, one a "
                "class (and one for the background of a softmax): set NUM_CLASSES to that of the "
                "file, or take weights of these classes."
            )
    return ""
