"""Configs of image classification: they load, build their model and say how they are run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from torch import nn, optim

from lt_det.data.images.long_tail_subset import exponential_counts
from lt_det.engine.startup.config_checks import check_config
from lt_det.engine.startup.setup import load_config
from lt_det.losses.criterion import Criterion

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "classification"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def num_classes_of(path: Path) -> int:
    known = {"cifar100": 100, "imagenet": 1000, "inaturalist18": 8142, "places": 365}
    return known.get(path.name.split("_")[0], 10)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_loads_and_says_how_it_is_run(path):
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.META_ARCHITECTURE == "LongTailImageClassifier"
    assert f"output/{path.stem}" == cfg.OUTPUT_DIR
    first = path.read_text().splitlines()[0]
    assert first.startswith("# python tools/train_net.py")
    assert f"configs/classification/{path.name}" in first
    for other in re.findall(r"configs/classification/([\w.]+\.yaml)", path.read_text()):
        assert (FOLDER / other).is_file(), other
    # Whatever the papers do, batch norm is decayed in their code as all else.
    if "digits" not in path.name:
        assert cfg.SOLVER.WEIGHT_DECAY_NORM == cfg.SOLVER.WEIGHT_DECAY
    classes = ["LT_DET.CLASSIFICATION.NUM_CLASSES", num_classes_of(path)]
    # Weights would be downloaded.
    options = ["MODEL.DEVICE", "cpu", "LT_DET.TIMM.WEIGHTS", "", *classes]
    model = build_model(load_config(str(path), options))
    assert model.cls_score.out_features == num_classes_of(path)


def learning_rates(path, iterations):
    cfg = load_config(str(FOLDER / path))
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = {}
    for iteration in range(max(iterations) + 1):
        rates[iteration] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    return [rates[i] for i in iterations]


def test_schedule_of_the_eureka_paper():
    cfg = load_config(str(FOLDER / "cifar10_lt_ce.yaml"))
    images = sum(exponential_counts(5000, num_classes=10, imbalance_factor=100))
    epoch = math.ceil(images / cfg.SOLVER.IMS_PER_BATCH)
    assert 200 * epoch == cfg.SOLVER.MAX_ITER
    found = learning_rates(
        "cifar10_lt_ce.yaml",
        [0, 2 * epoch, 5 * epoch, 160 * epoch - 1, 160 * epoch, 180 * epoch],
    )
    assert found == pytest.approx([0.0002, 0.04, 0.1, 0.1, 1e-3, 1e-5], rel=0.01)


def test_schedule_of_balms():
    cfg = load_config(str(FOLDER / "cifar10_lt_balanced_softmax.yaml"))
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.NESTEROV) == (512, True)
    transform = cfg.LT_DET.CLASSIFICATION.TRANSFORM
    assert (transform.AUTO_AUGMENT, transform.CUTOUT) == ("cifar10", 16)
    found = learning_rates("cifar10_lt_balanced_softmax.yaml", [0, 400, 800, 6500, 12999])
    # From 0.05 to 0.1, then half a cosine; at half of it 0.05.
    assert found[0] == pytest.approx(0.05)
    assert found[1] == pytest.approx(0.075, rel=0.02)
    assert found[2] == pytest.approx(0.1, rel=0.02)
    assert found[3:] == pytest.approx([0.05, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "lr", "epochs"),
    [
        ("imagenet_lt_r10_ce", 115846, (512, 0.2), 90),
        ("imagenet_lt_r10_balanced_softmax", 115846, (512, 0.2), 90),
        ("imagenet_lt_r10_balanced_softmax_decoupled", 115846, (512, 0.2), 10),
        ("imagenet_lt_r10_balms", 115846, (512, 0.2), 10),
        ("places_lt_r152_ce", 62500, (128, 0.01), 30),
        ("places_lt_r152_balanced_softmax", 62500, (128, 0.01), 30),
        ("places_lt_r152_balanced_softmax_decoupled", 62500, (128, 0.01), 10),
        ("places_lt_r152_balms", 62500, (128, 0.01), 10),
    ],
)
def test_schedules_of_the_large_sets(name, size, lr, epochs):
    cfg = load_config(str(FOLDER / f"{name}.yaml"))
    assert lr == (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR)
    assert epochs * math.ceil(size / lr[0]) == cfg.SOLVER.MAX_ITER
    last = cfg.SOLVER.MAX_ITER - 1
    assert learning_rates(f"{name}.yaml", [0, last]) == pytest.approx([lr[1], 0], abs=1e-6)
    second = name.endswith(("decoupled", "balms"))
    assert second == cfg.LT_DET.DECOUPLED == cfg.LT_DET.RESET_CLASSIFIER
    assert ("timm" if "places" in name and not second else "") == cfg.LT_DET.TIMM.WEIGHTS
    assert ("softmax_ce" if name.endswith("ce") else "balanced_softmax") == cfg.LT_DET.LOSS
    assert name.endswith("balms") == cfg.LT_DET.META.ENABLED
    transform = cfg.LT_DET.CLASSIFICATION.TRANSFORM
    assert (transform.NAME, transform.SIZE, transform.COLOR_JITTER) == ("resized_crop", 224, 0.4)


def test_resnet_10_is_a_resnet_18_with_one_block_a_stage():
    cfg = load_config(
        str(FOLDER / "imagenet_lt_r10_ce.yaml"),
        ["MODEL.DEVICE", "cpu", "LT_DET.CLASSIFICATION.NUM_CLASSES", 1000],
    )
    model = build_model(cfg)
    # Stem 64 * 3 * 49, then two 3 x 3 convolutions a stage and a 1 x 1 shortcut where it widens.
    widths = [64, 64, 128, 256, 512]
    weights = 3 * 64 * 49
    for before, after in zip(widths, widths[1:]):
        weights += 9 * (before * after + after * after) + (before != after) * before * after
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == weights
    assert model.cls_score.in_features == 512


def test_lws_is_crt_with_factors_in_place_of_a_new_classifier():
    lws, crt = (load_config(str(FOLDER / f"cifar10_lt_{m}.yaml")) for m in ("lws", "crt"))
    assert (lws.LT_DET.CLASSIFIER.NAME, lws.LT_DET.RESET_CLASSIFIER) == ("lws", False)
    assert crt.LT_DET.SAMPLER.NAME == "class_balanced"
    lws.LT_DET.CLASSIFIER.NAME, lws.LT_DET.RESET_CLASSIFIER = "linear", True
    lws.OUTPUT_DIR = crt.OUTPUT_DIR
    assert lws.dump() == crt.dump()


SAMPLED = ("class_balanced", "square_root", "progressive", "effective_number")
#: config -> what it sets, beside data, model and schedule
SMALL = {
    "weighted_ce": {
        "CLASS_WEIGHTS.NAME": "inverse_frequency",
        "CLASS_WEIGHTS.DENOMINATOR": "weights",
    },
    "focal_class_balanced": {
        "LOSS": "softmax_focal",
        "CLASS_WEIGHTS.NAME": "effective_number",
        "CLASS_WEIGHTS.DENOMINATOR": "rows",
    },
    "equalization": {"LOSS": "softmax_equalization"},
    **{f"{name}_sampling": {"SAMPLER.NAME": name} for name in SAMPLED},
    "deferred_resampling": {
        "DEFER.SAMPLER": "effective_number",
        "DEFER.START_ITER": 15520,
        "SAMPLER.NAME": "",
    },
    "balms_network": {"META.SCOPE": "network", "META.METHOD": "sampler", "DECOUPLED": False},
    "reweighter_network": {"META.SCOPE": "network", "META.METHOD": "reweighter"},
}


@pytest.mark.parametrize("name", SMALL)
def test_small_configs_set_what_they_are_called_by(name):
    cfg = load_config(str(FOLDER / f"cifar10_lt_{name}.yaml"), ["MODEL.DEVICE", "cpu"])
    check_config(cfg)
    for key, expected in SMALL[name].items():
        found = cfg.LT_DET
        for part in key.split("."):
            found = found[part]
        assert found == expected, key


def test_equalization_has_four_rare_classes_of_ten(caplog):
    cfg = load_config(str(FOLDER / "cifar10_lt_equalization.yaml"), ["MODEL.DEVICE", "cpu"])
    counts = exponential_counts(5000, num_classes=10, imbalance_factor=100)
    threshold = cfg.LT_DET.LOSS_PARAMS.SOFTMAX_EQUALIZATION.THRESHOLD
    Criterion("softmax_equalization", class_counts=counts, threshold=threshold)
    assert not caplog.text
    assert sum(count / sum(counts) < threshold for count in counts) == 4
    # The default goes with CIFAR-100-LT.
    hundred = exponential_counts(500, num_classes=100, imbalance_factor=100)
    Criterion("softmax_equalization", class_counts=hundred)
    assert not caplog.text
    criterion = Criterion("softmax_equalization")
    criterion.bind(torch.tensor(counts).double(), sum(counts))
    logits, labels = torch.randn(20, 10), torch.arange(20) % 10
    plain = Criterion("softmax_ce").mean_loss(logits, labels)
    for _ in range(2):
        assert torch.equal(criterion.mean_loss(logits, labels), plain)
    assert caplog.text.count("plain cross-entropy here: no class is below the threshold 0.003") == 1
