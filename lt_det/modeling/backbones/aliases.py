"""Former registry names of the backbones, for older configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.modeling import BACKBONE_REGISTRY

from lt_det.modeling.backbones.cifar_resnet import build_lt_det_cifar_resnet_backbone
from lt_det.modeling.backbones.timm_backbone import (
    build_lt_det_timm_backbone,
    build_lt_det_timm_fpn_backbone,
)

#: Former value of MODEL.BACKBONE.NAME -> what it builds.
FORMER_NAMES: dict[str, Callable[..., Any]] = {
    "build_timm_backbone": build_lt_det_timm_backbone,
    "build_timm_fpn_backbone": build_lt_det_timm_fpn_backbone,
    "build_cifar_resnet_backbone": build_lt_det_cifar_resnet_backbone,
}


def register_former_names() -> None:
    """Register the former names that nobody else has registered.

    Not when this package is imported: a project that is imported later may have a backbone of the
    same name (Detic has), and Detectron2 refuses a second one.
    """
    for name, builder in FORMER_NAMES.items():
        if name not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY.register(_named(name, builder))


def _named(name: str, builder: Callable[..., Any]) -> Callable[..., Any]:
    def build_backbone(cfg: Any, input_shape: Any) -> Any:
        return builder(cfg, input_shape)

    build_backbone.__name__ = name
    return build_backbone
