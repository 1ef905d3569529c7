"""Use any timm model with feature taps as a Detectron2 backbone.

The feature maps are named like those of Detectron2's ResNets, by their stride: "res2" has stride
4, "res3" 8, "res4" 16, "res5" 32. Existing model configs therefore need no other change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from lt_det.data.array_unpickler import BROKEN_FILE
from lt_det.modeling.backbones.lite0_weights import LITE0_MODEL, load_lite0_state_dict
from lt_det.storage.regular_file import check_regular
from lt_det.storage.tensor_file import load_tensors, why_not_loaded

logger = logging.getLogger(__name__)

# Values of ``weights`` with a meaning of their own; every other non-empty value is a path.
LITE0_PIP_WEIGHTS = "lite0-pip"
TIMM_WEIGHTS = "timm"


class TimmBackbone(Backbone):
    """Feature maps of a timm model, as a Detectron2 backbone.

    Shape shorthand: B images, C_s channels at stride s; the map of stride s is
    ``(B, C_s, ceil(H/s), ceil(W/s))``.
    """

    def __init__(
        self,
        name: str,
        *,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        out_features: Sequence[str] | None = None,
        weights: str = "",
        freeze: bool = False,
        freeze_norm: bool = True,
        layers: Sequence[int] = (),
        in_channels: int = 3,
    ) -> None:
        """Build the model and load its weights.

        Args:
            name: name of a timm model, e.g. "tf_efficientnet_lite0".
            out_indices: which of timm's feature maps; for most convolutional models 0 to 4 have the
                strides 2 to 32, for some 0 to 3 have 4 to 32.
            out_features: names of the maps to return, in this order; None returns all of them.
            weights: "" for a random initialisation (a checkpoint follows), "lite0-pip" for the
                ImageNet weights of EfficientNet-Lite0 out of a pip package, "timm" for timm's own
                (downloaded), or the path of a state dict with timm's names.
            freeze: train nothing, run without gradients and keep every layer in evaluation mode.
            freeze_norm: keep batch normalisation fixed (statistics and affine parameters) while
                the rest trains, like Detectron2's FrozenBN. Detection batches are too small for it.
            layers: blocks of each stage, for networks with such an argument (ResNets); () are the
                model's own. (1, 1, 1, 1) makes "resnet18" a ResNet-10.
            in_channels: channels of the input.

        Raises:
            ImportError: if timm, or the package of the weights, is not installed.
            ValueError: if the model has no feature taps, two maps have the same stride, an unknown
                output is asked for, or the weights do not fit the model.
            FileNotFoundError: if ``weights`` is a path where no file is.
        """
        super().__init__()
        self.model = _create_model(
            name,
            out_indices=out_indices,
            weights=weights,
            layers=layers,
            in_channels=in_channels,
        )
        info = self.model.feature_info
        names = [_feature_name(stride) for stride in info.reduction()]
        if len(set(names)) != len(names):
            raise ValueError(
                f"the feature maps {list(out_indices)} of {name!r} have the strides "
                f"{info.reduction()}; choose out_indices with different strides"
            )
        wanted = list(names if out_features is None else out_features)
        unknown = [feature for feature in wanted if feature not in names]
        if unknown or not wanted:
            raise ValueError(
                f"out_features {unknown or wanted} are not among those of {name!r} with "
                f"out_indices {list(out_indices)}: {names}"
            )
        self._names = names
        # The base class's output_shape reads these three.
        self._out_features = wanted
        self._out_feature_channels = dict(zip(names, info.channels()))
        self._out_feature_strides = dict(zip(names, info.reduction()))
        self.is_frozen, self.has_frozen_norm = freeze, freeze or freeze_norm
        for module in self.modules():
            if freeze or (freeze_norm and isinstance(module, _NORMS)):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the feature maps by name.

        Args:
            images: ``(B, in_channels, H, W)`` float, normalised as the weights expect it.
        """
        # Without the graph the frozen layers need neither the memory nor the bookkeeping.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            maps = dict(zip(self._names, self.model(images)))
        return {name: maps[name] for name in self._out_features}

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set training mode, except for what is frozen; return the backbone.

        Args:
            mode: True for training.
        """
        super().train(mode)
        for module in self.model.modules():
            if self.is_frozen or (self.has_frozen_norm and isinstance(module, _NORMS)):
                module.training = False
        return self


# timm's fused norm-activation layers are subclasses of these.
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@BACKBONE_REGISTRY.register()
def build_lt_det_timm_backbone(cfg: Any, input_shape: ShapeSpec) -> TimmBackbone:
    """Return the timm backbone of ``cfg.LT_DET.TIMM``.

    Args:
        cfg: Detectron2 config with lt_det's keys.
        input_shape: shape of the input; its channels are used.
    """
    keys = cfg.LT_DET.TIMM
    return TimmBackbone(
        keys.NAME,
        out_indices=tuple(keys.OUT_INDICES),
        weights=keys.WEIGHTS,
        freeze=keys.FREEZE,
        freeze_norm=keys.FREEZE_NORM,
        layers=tuple(keys.LAYERS),
        in_channels=input_shape.channels,
    )


@BACKBONE_REGISTRY.register()
def build_lt_det_timm_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """Return a feature pyramid on the timm backbone of ``cfg.LT_DET.TIMM``.

    Levels, channels, norm and fusion come from ``cfg.MODEL.FPN``, as in Detectron2's ResNet FPN.

    Args:
        cfg: Detectron2 config with lt_det's keys.
        input_shape: shape of the input; its channels are used.

    Raises:
        ValueError: if MODEL.FPN.IN_FEATURES names a map that the backbone does not have.
    """
    bottom_up = build_lt_det_timm_backbone(cfg, input_shape)
    in_features, available = cfg.MODEL.FPN.IN_FEATURES, bottom_up.output_shape()
    if not in_features or any(name not in available for name in in_features):
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES is {list(in_features)}, but LT_DET.TIMM.NAME "
            f"{cfg.LT_DET.TIMM.NAME!r} with OUT_INDICES {list(cfg.LT_DET.TIMM.OUT_INDICES)} has "
            f"{ {name: shape.stride for name, shape in available.items()} } (name: stride)"
        )
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _feature_name(stride: int) -> str:
    level = math.log2(stride)
    if not level.is_integer():
        raise ValueError(f"a feature map has stride {stride}, which is no power of 2")
    return f"res{int(level)}"


def _create_model(
    name: str,
    *,
    out_indices: Sequence[int],
    weights: str,
    layers: Sequence[int],
    in_channels: int,
) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ImportError("a timm backbone needs timm: pip install 'lt_det[demo]'") from error
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:10]
        raise ValueError(f"timm has no model {name!r} (LT_DET.TIMM.NAME); similar names: {close}")
    options: dict[str, Any] = {"layers": tuple(layers)} if layers else {}
    if weights == TIMM_WEIGHTS:
        options["pretrained"] = True
    elif weights:
        state_dict = _read_weights(weights, name=name)
        _check_fit(state_dict, timm.create_model(name, **options), weights=weights, name=name)
        # timm loads the whole network's weights and then cuts it at the last tap.
        logger.info("loading %s; timm may report the parameters behind the last tap", weights)
        options.update(pretrained=True, pretrained_cfg_overlay={"state_dict": state_dict})
    try:
        return timm.create_model(
            name,
            features_only=True,
            out_indices=tuple(out_indices),
            in_chans=in_channels,
            **options,
        )
    except TypeError as error:
        if not layers:
            raise
        raise ValueError(
            f"timm's {name!r} (LT_DET.TIMM.NAME) takes no layers {list(layers)} "
            f"(LT_DET.TIMM.LAYERS); its ResNets do: {error}"
        ) from error
    except (AssertionError, IndexError, RuntimeError) as error:
        # What timm raises for models without taps and for indices past the last one.
        raise ValueError(
            f"timm cannot make a feature extractor of {name!r} with out_indices "
            f"{list(out_indices)} (LT_DET.TIMM.OUT_INDICES): {error}"
        ) from error


def _read_weights(weights: str, *, name: str) -> dict[str, Tensor]:
    if weights == LITE0_PIP_WEIGHTS:
        if name != LITE0_MODEL:
            raise ValueError(f"weights {weights!r} are those of {LITE0_MODEL!r}, not of {name!r}")
        return load_lite0_state_dict()
    if not Path(weights).is_file():
        check_regular(weights)
        raise FileNotFoundError(
            f"weights must be '', {LITE0_PIP_WEIGHTS!r}, {TIMM_WEIGHTS!r} or a file, got "
            f"{weights!r} (LT_DET.TIMM.WEIGHTS)"
        )
    try:
        content = load_tensors(weights)
    except BROKEN_FILE as error:
        raise ValueError(
            f"the weights {weights!r} (LT_DET.TIMM.WEIGHTS) were not loaded: "
            f"{why_not_loaded(error)}; expected a state dict of tensors"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"the weights {weights!r} (LT_DET.TIMM.WEIGHTS) hold a {type(content).__name__}, "
            "expected a state dict"
        )
    # Training scripts wrap the state dict.
    return next((content[k] for k in ("state_dict", "model") if k in content), content)


_Kind = Literal["missing", "unexpected", "of another shape"]


def _check_fit(
    state_dict: Mapping[str, Tensor], model: nn.Module, *, weights: str, name: str
) -> None:
    """Raise unless every key fits; the classifier, which is cut off, need not be there."""
    expected = model.state_dict()
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    problems: dict[_Kind, list[str]] = {
        "missing": [key for key in expected if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in expected],
        "of another shape": [
            key
            for key, tensor in state_dict.items()
            if key in expected and expected[key].shape != tensor.shape
        ],
    }
    for kind, keys in problems.items():
        bad = [key for key in keys if not key.startswith(tuple(f"{head}." for head in heads))]
        if bad:
            raise ValueError(
                f"the weights {weights!r} do not fit timm's {name!r}: {len(bad)} parameters are "
                f"{kind}, e.g. {bad[:3]}"
            )
