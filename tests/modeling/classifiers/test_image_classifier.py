"""CIFAR ResNets, classifiers, and the model that holds them."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from lt_det.losses import LOSSES
from lt_det.modeling.backbones.cifar_resnet import CifarResNet
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.classifiers.layers import ScaledClassifier, build_image_classifier
from tests.engine.digits import digits_config


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


def batch_of(size, *, num_images=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, size, size)
    return [
        {
            "image": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            "category_id": i % 10,
            "image_id": i,
        }
        for i in range(num_images)
    ]


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_sizes_are_those_of_the_paper(depth, millions):
    assert round((num_parameters(CifarResNet(depth=depth)) + 650) / 1e6, 2) == millions


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 8), (2, 4)])
def test_map_has_the_shape_it_says(stem_stride, side):
    net = CifarResNet(depth=8, width=4, stem_stride=stem_stride)
    ((name, features),) = net(torch.randn(2, 3, 32, 32)).items()
    (shape,) = net.output_shape().values()
    assert features.shape == (2, 16, side, side)
    assert (shape.channels, shape.stride) == (16, 32 // side)
    assert name in net.output_shape()


def test_shortcuts_have_no_parameters_and_pad_channels_with_zeros():
    net = CifarResNet(depth=8, width=4).eval()
    for block in net.blocks:
        nn.init.zeros_(block.norm2.weight)  # so only the shortcuts are left
    images = torch.randn(2, 3, 8, 8)
    stem = torch.relu(net.stem(images))
    (out,) = net(images).values()
    expected = torch.zeros(2, 16, 2, 2)
    # 4 channels, padded by 2 on both sides, then by 4: in the middle of 16.
    expected[:, 6:10] = stem[:, :, ::4, ::4]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"depth": 18}, "DEPTH must be 6n"),
        ({"depth": 2}, "DEPTH must be 6n"),
        ({"width": 0}, "WIDTH must be at least 1"),
        ({"stem_stride": 4}, "STEM_STRIDE must be 1 or 2"),
    ],
)
def test_networks_that_do_not_exist(keys, message):
    with pytest.raises(ValueError, match=message):
        CifarResNet(**keys)


def test_scaled_classifier_learns_factors_only():
    linear = nn.Linear(3, 2)
    classifier = ScaledClassifier(linear)
    features = torch.randn(5, 3)
    torch.testing.assert_close(classifier(features), linear(features))
    with torch.no_grad():
        classifier.class_scale.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(classifier(features), linear(features) * torch.tensor([2.0, -1.0]))
    classifier.requires_grad_(True)
    classifier(features).sum().backward()
    assert linear.weight.grad is None
    assert linear.bias.grad is None
    torch.testing.assert_close(classifier.class_scale.grad, linear(features).sum(0))
    assert not any(p.requires_grad for p in classifier.requires_grad_(False).parameters())


def test_scaled_classifier_loads_a_linear_one():
    linear = nn.Sequential(nn.Linear(3, 2))
    scaled = nn.Sequential(ScaledClassifier(nn.Linear(3, 2)))
    nn.init.constant_(scaled[0].class_scale, 5.0)
    assert not scaled.load_state_dict(linear.state_dict(), strict=False).missing_keys
    torch.testing.assert_close(scaled(torch.ones(1, 3)), linear(torch.ones(1, 3)))
    with pytest.raises(RuntimeError, match="Missing"):
        scaled.load_state_dict({})


def test_classifiers_by_name():
    cosine = build_image_classifier("cosine", 3, 2, bias=False, scale=7.0)
    assert cosine.bias is None
    assert cosine(torch.randn(9, 3)).abs().max() <= 7.0
    with pytest.raises(ValueError, match=r"LT_DET.CLASSIFIER.NAME must be one of .*got 'mlp'"):
        build_image_classifier("mlp", 3, 2, bias=True, scale=1.0)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("classifier", ["linear", "cosine", "lws"])
def test_every_loss_trains_every_classifier(tmp_path, loss, classifier):
    cfg = digits_config(tmp_path, "LT_DET.LOSS", loss, "LT_DET.CLASSIFIER.NAME", classifier)
    model = build_model(cfg)
    assert model.cls_score.out_features == 10  # no background
    losses = model(batch_of(8))
    assert list(losses) == ["loss_cls"]
    losses["loss_cls"].backward()
    part = model.cls_score.class_scale if classifier == "lws" else model.cls_score.weight
    assert part.grad.abs().sum() > 0
    with torch.no_grad():
        outputs = model.eval()(batch_of(8))
    assert len(outputs) == 4
    for output in outputs:
        assert output["scores"].shape == output["logits"].shape == (10,)
        if loss in ("bags", "iif"):  # in groups, or of another product: by tests of their own
            assert 0.0 <= output["scores"].min() <= output["scores"].max() <= 1.0
        elif LOSSES[loss].kind == "softmax":
            torch.testing.assert_close(output["scores"], output["logits"].softmax(0))
        elif loss in ("gumbel", "gol"):
            torch.testing.assert_close(output["scores"], torch.exp(-torch.exp(-output["logits"])))
        else:
            torch.testing.assert_close(output["scores"], output["logits"].sigmoid())


def test_loss_is_the_mean_cross_entropy_of_normalised_images(tmp_path):
    model = build_model(digits_config(tmp_path))
    batch = batch_of(8)
    images = (torch.stack([x["image"] for x in batch]).float() - 78) / 96
    (maps,) = model.backbone(images).values()
    logits = model.cls_score(maps.flatten(2).mean(2))
    expected = nn.functional.cross_entropy(logits, torch.arange(4))
    torch.testing.assert_close(model(batch)["loss_cls"], expected)
    # In evaluation batch norm does not hide the scale.
    model.eval()
    with torch.no_grad():
        (maps,) = model.backbone(images).values()
        logits = torch.stack([x["logits"] for x in model(batch)])
    torch.testing.assert_close(logits, model.cls_score(maps.flatten(2).mean(2)))


def test_softmax_counts_have_no_background(tmp_path):
    model = build_model(digits_config(tmp_path, "LT_DET.LOSS", "balanced_softmax"))
    model(batch_of(8))
    counts = model.criterion.class_counts
    assert len(counts) == 10
    assert counts[0] / counts[-1] > 19


def test_sigmoid_losses_start_from_the_prior(tmp_path):
    model = build_model(digits_config(tmp_path, "LT_DET.LOSS", "focal"))
    torch.testing.assert_close(model.cls_score.bias.sigmoid(), torch.full((10,), 0.001))


def test_second_stage_trains_the_classifier_only(tmp_path):
    model = freeze_all_but_classifier(build_model(digits_config(tmp_path)))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["cls_score.weight", "cls_score.bias"]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()(batch_of(8))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norm's statistics too


def test_feature_that_the_backbone_has_not(tmp_path):
    with pytest.raises(ValueError, match="FEATURE 'res9' is no map of the backbone"):
        build_model(digits_config(tmp_path, "LT_DET.CLASSIFICATION.FEATURE", "res9"))


@pytest.mark.parametrize("name", ["build_lt_det_timm_backbone", "build_resnet_backbone"])
def test_other_backbones(tmp_path, name):
    pytest.importorskip("timm")
    options = [
        *("MODEL.BACKBONE.NAME", name, "LT_DET.TIMM.NAME", "resnet10t"),
        *("LT_DET.TIMM.FREEZE_NORM", False, "MODEL.RESNETS.DEPTH", 18),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["res5"]),
        *("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0),
    ]
    model = build_model(digits_config(tmp_path, *options))
    assert model.cls_score.in_features == 512
    model(batch_of(64))["loss_cls"].backward()
    assert all(p.grad is not None for p in model.parameters())
