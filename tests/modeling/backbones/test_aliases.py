"""Names in Detectron2's registries: ours do not stand in anybody's way."""

from __future__ import annotations

import pytest
from detectron2.modeling import BACKBONE_REGISTRY

from lt_det.modeling.backbones.aliases import FORMER_NAMES
from tests.modeling.small_models import small_config
from tests.processes import run_python

OTHER_PROJECT = """
from detectron2.modeling import BACKBONE_REGISTRY
{first}
@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape):
    return "theirs"
{second}
from detectron2.config import get_cfg
from lt_det.config import add_lt_det_config
add_lt_det_config(get_cfg())
assert BACKBONE_REGISTRY.get("build_timm_backbone") is build_timm_backbone
assert "build_timm_fpn_backbone" in BACKBONE_REGISTRY
"""


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_a_project_with_a_backbone_of_the_same_name(order):
    ours = "import lt_det.modeling, lt_det.config"
    first, second = (ours, "") if order == "ours first" else ("", ours)
    script = OTHER_PROJECT.format(first=first, second=second)
    result = run_python(script)
    assert result.returncode == 0, result.stderr


def test_names_begin_with_ours():
    small_config()
    names = [name for name, _ in BACKBONE_REGISTRY if _.__module__.startswith("lt_det.")]
    assert {n for n in names if not n.startswith("build_lt_det_")} == set(FORMER_NAMES)


def test_former_names_build_the_same():
    cfg = small_config(MODEL__BACKBONE__NAME="build_cifar_resnet_backbone")
    from detectron2.modeling import build_backbone

    old = build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_lt_det_cifar_resnet_backbone"
    assert type(build_backbone(cfg)) is type(old)
