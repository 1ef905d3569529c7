"""Configs of image classification: they load, build their model and say how they are run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from torch import nn, optim

from lt_det.data.long_tail_subset import exponential_counts
from lt_det.engine.setup import load_config

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "classification"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def num_classes_of(path: Path) -> int:
    known = {"cifar100": 100, "imagenet": 1000, "inaturalist18": 8142}
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
    model = build_model(load_config(str(path), ["MODEL.DEVICE", "cpu", *classes]))
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
