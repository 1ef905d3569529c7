"""Balance of a tiny detector from a checkpoint to a checkpoint, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from lt_det.balancing import run as balance_run
from lt_det.balancing.choice import Objective
from lt_det.balancing.evaluation_cache import EvaluationCache, FrozenDetector
from lt_det.balancing.final_evaluation import results_of
from lt_det.balancing.frozen_images import FrozenImage
from lt_det.balancing.kept import kept_images
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.run import run_balance
from lt_det.balancing.subsets import images_of_all_classes
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import HEADS
from tests.processes import run_python

OPTIONS = BalanceOptions(iterations=3, tau=(), score_thresholds=(), nms_thresholds=(0.3,))


def trained(folder, *, kind="standard", ours=True, change=lambda cfg: cfg, **keys):
    """Return the config of a detector with weights that tell classes apart."""
    cfg = tiny_config(folder, kind, **keys)
    change(cfg)
    cfg.MODEL.ROI_HEADS.NAME = HEADS[kind][int(ours)]
    torch.manual_seed(0)
    model = LongTailTrainer.build_model(cfg).eval()
    for name, value in model.named_parameters():
        if "cls_score" in name:
            value.data.normal_(std=0.3)
    weights = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    torch.save({"model": model.state_dict()}, weights)
    cfg.MODEL.WEIGHTS = weights
    return cfg


PLAIN = """
import sys, torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetMapper
cfg = get_cfg()
cfg.merge_from_file(sys.argv[1])
model = build_model(cfg).eval()
DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
mapper = DatasetMapper(cfg, is_train=False)
found = []
with torch.no_grad():
    for name in sys.argv[3:]:
        (output,) = model([mapper({"file_name": name, "height": 64, "width": 64})])
        i = output["instances"]
        found.append((i.pred_boxes.tensor, i.scores, i.pred_classes))
assert not any(name.split(".")[0] == "lt_det" for name in sys.modules)
torch.save(found, sys.argv[2])
"""


def detections_of_plain(output, files, tmp_path):
    """Return boxes, scores and classes of each file by balanced.yaml, without lt_det."""
    result = run_python(PLAIN, output / "balanced.yaml", tmp_path / "f", *files)
    assert result.returncode == 0, result.stderr
    return torch.load(tmp_path / "f")


@pytest.mark.parametrize(
    ("kind", "ours", "loss"),
    [
        ("standard", True, "softmax_ce"),
        pytest.param("standard", True, "sigmoid_ce", marks=pytest.mark.slow),
        pytest.param("standard", False, "softmax_ce", marks=pytest.mark.slow),
        pytest.param("cascade", True, "softmax_ce", marks=pytest.mark.slow),
    ],
)
def test_plain_detectron2_has_the_same_detections(tmp_path, kind, ours, loss):
    # Keys of a training, as new-project writes them: no training of balance is to choose by them.
    keys = {"BEST_CHECKPOINT": "bbox/AP", "EARLY_STOPPING": 3, "START_CLASSES": "coco_2017_val"}
    if ours:
        keys |= {
            "COPY_PASTE__ENABLED": True,
            "DEFER__START_ITER": 2,
            "DEFER__SAMPLER": "class_aware",
        }
    keys = {f"LT_DET__{key}": value for key, value in keys.items()}
    cfg = trained(tmp_path, kind=kind, ours=ours, LT_DET__LOSS=loss, **keys)
    output = tmp_path / "balance"
    balanced = run_balance(cfg, OPTIONS, output)
    assert balanced.is_plain
    assert not balanced.left_out
    names = [record["file_name"] for record in DatasetCatalog.get(cfg.DATASETS.TEST[0])][:4]
    # Any candidate: that the chosen one is the start would show nothing.
    subject, _ = balance_run.plan_balance(cfg, OPTIONS, output)
    table = balanced.outcome.rows
    assert {row["level"] for row in table} >= {
        "as trained",
        "post-processing",
        "calibration",
        "loss",
    }
    (candidate,) = [c for c in subject.calibrations() if c.name == "tau-norm tau 0.5"]
    limits = subject.settings(OPTIONS)[1]
    subject.write(output, candidate.classifiers, limits)
    store = subject.cache.fill()
    for place, (boxes, scores, classes) in enumerate(detections_of_plain(output, names, tmp_path)):
        frozen = FrozenImage.of_record(store[place])
        (ours,) = subject.replay.image(frozen)(candidate.classifiers, [limits])
        assert len(ours) > 3
        assert torch.equal(ours.scores, scores)
        assert torch.equal(ours.pred_classes, classes)
        assert torch.equal(ours.pred_boxes.tensor, boxes)


def test_the_start_has_the_figures_of_an_evaluation(tmp_path, monkeypatch):
    cfg = trained(tmp_path)
    said = []
    options = BalanceOptions(train=False, evaluate=True)
    balanced = run_balance(cfg, options, tmp_path / "balance", say=said.append)
    assert "2 x 8 images" in said[-1]
    results = LongTailTrainer.evaluate_checkpoint(cfg)
    start = balanced.outcome.rows[0]
    for name in ("AP", "APr"):
        np.testing.assert_allclose(start[name], results["bbox"][name], atol=1e-9)
    # Masks are evaluated through the detector, and the boxes again: as the row says.
    through = balanced.outcome.evaluated
    assert set(through["start"]) == set(through["balanced"]) == {"bbox", "segm"}
    for task in ("bbox", "segm"):
        np.testing.assert_equal(through["start"][task], dict(results[task]))
    chosen = balanced.outcome.rows[balanced.outcome.chosen]
    np.testing.assert_allclose(through["balanced"]["bbox"]["AP"], chosen["AP"], atol=1e-9)
    assert "| segm, through the model" in balanced.outcome.text()
    record = json.loads((tmp_path / "balance" / "balance_result.json").read_text())
    assert record["origin"]["versions"]["torch"] == torch.__version__
    assert record["start"]["candidate"] == "as trained"
    assert len(record["candidates"]) == len(balanced.outcome.rows)
    assert "trained on" in " ".join(record["notes"])  # the tiny set is both
    assert record["evaluated"]["start"]["segm"]["AP"] == results["segm"]["AP"]
    # Kept: a repeated balance does not evaluate again, but for other classifiers or limits.
    subject, _ = balance_run.plan_balance(cfg, BalanceOptions(train=False), tmp_path / "balance")
    anew = iter(range(9))
    monkeypatch.setattr(LongTailTrainer, "test", lambda *_: {"bbox": {"AP": next(anew)}})
    own, *_, other = subject.settings(options)
    ((weight, bias),) = of_start = subject.own_classifiers()
    changed, folder = [(weight, bias + 1)], tmp_path / "balance" / "start"
    whole = results_of(subject, subject.model, of_start, own, folder)
    np.testing.assert_equal(whole, through["start"])
    for number, one in enumerate([(changed, own), (changed, other), (of_start, other)]):
        assert results_of(subject, subject.model, *one, folder) == {"bbox": {"AP": number}}


def test_a_stopped_balance_goes_on(tmp_path, monkeypatch):
    cfg = trained(tmp_path)
    calls = []
    train = balance_run.train_candidate

    def stops(_cfg, recipe, **options):
        calls.append(recipe.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(_cfg, recipe, **options)

    monkeypatch.setattr(balance_run, "train_candidate", stops)
    with pytest.raises(KeyboardInterrupt):
        run_balance(cfg, OPTIONS, tmp_path / "balance")
    first = calls[:2]
    calls[:] = [""] * 3
    balanced = run_balance(cfg, OPTIONS, tmp_path / "balance")
    assert not set(first) & set(calls)
    assert {row["candidate"] for row in balanced.outcome.rows} >= set(first)
    # Nothing is trained a second time, and the choice is the same; what is damaged is done anew.
    calls[:] = [""] * 3
    damaged = sorted((tmp_path / "balance" / "candidates").glob("tau_norm*"))
    assert len(damaged) >= 3
    for path, change in zip(damaged, (lambda _: b"", lambda b: b[:-40], _scrambled)):
        path.write_bytes(change(path.read_bytes()))
    again = run_balance(cfg, OPTIONS, tmp_path / "balance")
    assert calls == [""] * 3
    assert repr(again.outcome.rows) == repr(balanced.outcome.rows)  # nan is not equal to itself


def _scrambled(content):
    """Return an archive whose compressed arrays are no such."""
    middle = len(content) // 3
    return content[:middle] + b"\xff" * 64 + content[middle + 64 :]


def test_a_budget_leaves_out_what_does_not_fit(tmp_path):
    cfg = trained(tmp_path)
    options = BalanceOptions(iterations=3, budget=1e-3, tau=(), nms_thresholds=())
    said = []
    balanced = run_balance(cfg, options, tmp_path / "balance", say=said.append)
    assert "balanced_softmax" in balanced.left_out
    assert "No time was left" in said[-1]
    chosen_on = json.loads((tmp_path / "balance" / "balance.json").read_text())["test images"]
    # With more time it goes on with the same images, however many would fit now.
    more = BalanceOptions(iterations=3, budget=600.0, tau=(), nms_thresholds=())
    assert not run_balance(cfg, more, tmp_path / "balance").left_out
    now = json.loads((tmp_path / "balance" / "balance.json").read_text())["test images"]
    assert now == chosen_on


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MODEL.WEIGHTS": ""}, "MODEL.WEIGHTS is empty"),
        ({"DATASETS.TEST": ()}, "--choose-on NAME"),
        ({"LT_DET.POST_HOC.TAU_NORM": 0.5}, "LT_DET.POST_HOC is set"),
        ({"LT_DET.CLASSIFIER.NAME": "cosine"}, "cannot be replayed"),
    ],
)
def test_what_cannot_be_balanced_is_refused(tmp_path, change, words):
    cfg = trained(tmp_path)
    for key, value in change.items():
        cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=words):
        run_balance(cfg, OPTIONS, tmp_path / "balance")


def test_another_balance_is_not_mixed_in(tmp_path):
    cfg = trained(tmp_path)
    options = BalanceOptions(train=False, nms_thresholds=())
    run_balance(cfg, options, tmp_path / "balance")
    other = BalanceOptions(train=False, nms_thresholds=(0.7,))
    with pytest.raises(ValueError, match="--nms-thresholds differ"):
        run_balance(cfg, other, tmp_path / "balance")
    moved = BalanceOptions(train=False, nms_thresholds=(), objective=Objective("AP", "", 0.0))
    run_balance(cfg, moved, tmp_path / "balance")  # only the choice is another
    # Objects that moved since: what was found was judged by others.
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="annotations of the test images, .* differ"):
        run_balance(cfg, options, tmp_path / "balance")


def test_images_of_a_balance_that_goes_on_are_those_of_its_number(tmp_path):
    begun = {"test images": [1, 4], "training images": [0, 2], "--images": 2}
    (tmp_path / "balance.json").write_text(json.dumps(begun))
    assert kept_images(tmp_path, asked=2) == ([1, 4], [0, 2])
    assert kept_images(tmp_path, asked=0) is None
    assert kept_images(tmp_path / "none", asked=2) is None


def test_the_cache_is_shared_and_goes_on(tmp_path, monkeypatch):
    cfg = trained(tmp_path)
    model = build_model(cfg).eval()
    dicts = DatasetCatalog.get(cfg.DATASETS.TEST[0])
    monkeypatch.setattr("lt_det.balancing.evaluation_cache.IMAGES_PER_SHARD", 3)

    def cache(name):
        part = FrozenDetector(cfg, model)
        beside = str(tmp_path / name)
        return EvaluationCache(cfg, model, dicts, part, beside=beside, dtype="float32")

    assert cache("one").missing() == 8
    stopped = iter(range(4))
    with pytest.raises(StopIteration):
        cache("one").fill(on_image=lambda: next(stopped))
    assert cache("two").missing() == 5
    records = cache("two").fill()
    assert len(records) == 8
    assert cache("three").missing() == 0
    shard = sorted(Path(cache("one").folder).glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    assert cache("one").missing() == 3


def test_a_subset_keeps_every_class():
    by_class = [[0], [1, 2], [3, 4, 5], list(range(6, 60))]
    rows = images_of_all_classes(by_class, total=60, number=10, seed=1)
    assert rows == images_of_all_classes(by_class, total=60, number=10, seed=1)
    assert len(rows) == 10
    assert rows == sorted(set(rows))
    assert all(set(rows) & set(of_class) for of_class in by_class)
    assert images_of_all_classes(by_class, total=60, number=99, seed=1) == list(range(60))
