"""Balance of an image classifier from a checkpoint to a checkpoint, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from lt_det.balancing.candidates import Recipe
from lt_det.balancing.image_subject import ImageSubject
from lt_det.balancing.options import BalanceOptions, objective_of
from lt_det.balancing.run import plan_balance, run_balance
from lt_det.balancing.training import training_config
from lt_det.balancing.truth import ImageTruth, Predicted
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.loading.build import build_test_loader
from lt_det.engine.startup.setup import load_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.evaluation.classification.metrics import class_accuracies
from lt_det.tasks import build_task
from tests.engine.digits import digits_config

METRICS = ("mean_class", "few", "medium", "many")
CALIBRATIONS = BalanceOptions(train=False)


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory):
    """Return the config of a classifier that neglects the few, on features drawn at random."""
    return untrained(tmp_path_factory.mktemp("stage_1"), fit=True)


def untrained(folder, *options, fit=False):
    """Return the config of a classifier with weights that tell classes apart."""
    cfg = digits_config(folder, *options)
    torch.manual_seed(0)
    model = LongTailTrainer.build_model(cfg)
    with torch.no_grad():
        for parameter in model.cls_score.parameters():
            parameter.normal_()
    if fit:
        fit_cross_entropy(cfg, model.eval())
    cfg.defrost()
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


def fit_cross_entropy(cfg, model):
    batch = build_task(cfg).build_mapper(cfg, is_train=False)(build_train_dicts(cfg))
    with torch.no_grad():
        features, labels = model.features(model.images(batch)), model.labels(batch)
        scale = features.std()
    layer = torch.nn.Linear(features.shape[1], 10)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(features / scale), labels).backward()
        optimizer.step()
    with torch.no_grad():
        model.cls_score.weight.copy_(layer.weight / scale)
        model.cls_score.bias.copy_(layer.bias)


def evaluated(cfg, weights):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(weights)
    return LongTailTrainer.evaluate_checkpoint(cfg)["classification"]


def figures_through_the_model(cfg, row, weights):
    """Return the results of an evaluation with the plain config, which a row must have too."""
    results = evaluated(cfg, weights)
    np.testing.assert_allclose([row[k] for k in METRICS], [results[k] for k in METRICS])
    return results


def test_a_gain_is_found_and_written_into_the_checkpoint(tmp_path, stage_1):
    output = tmp_path / "balance"
    balanced = run_balance(stage_1, CALIBRATIONS, output)
    outcome = balanced.outcome
    assert outcome.is_gain
    chosen, start = outcome.rows[outcome.chosen], outcome.rows[0]
    assert chosen["mean_class"] > start["mean_class"] + 3
    assert {row["level"] for row in outcome.rows} == {"as trained", "calibration"}
    figures_through_the_model(stage_1, chosen, balanced.checkpoint)
    assert json.loads((output / "balance_result.json").read_text())["chosen"] == chosen
    header = (output / "balance_table.csv").read_text().splitlines()[0]
    assert header == "candidate,level,settings,mean_class,few,medium,many"


@pytest.mark.slow
def test_trained_classifiers_are_chosen_and_evaluated(tmp_path, stage_1, monkeypatch):
    of_all, wanted = ImageSubject.recipes, ("balanced_softmax", "balanced_softmax, Meta Sampler")
    monkeypatch.setattr(
        ImageSubject, "recipes", lambda *a: [r for r in of_all(*a) if r.name in wanted]
    )
    output = tmp_path / "balance"
    options = BalanceOptions(iterations=30, evaluate=True)
    balanced = run_balance(stage_1, options, output)
    outcome = balanced.outcome
    chosen, start = outcome.rows[outcome.chosen], outcome.rows[0]
    assert {row["level"] for row in outcome.rows} == {"as trained", "calibration", "loss", "meta"}
    assert {"LogN", *wanted} < {row["candidate"] for row in outcome.rows}
    figures_through_the_model(stage_1, start, stage_1.MODEL.WEIGHTS)
    results = figures_through_the_model(stage_1, chosen, balanced.checkpoint)
    assert evaluated(load_config(str(output / "balanced.yaml")), balanced.checkpoint) == results
    assert outcome.evaluated["balanced"] == {"classification": results}
    record = json.loads((output / "balance_result.json").read_text())
    assert record["evaluated"]["balanced"]["classification"]["few"] == results["few"]
    # Again: nothing is trained, the same is chosen.
    again = run_balance(stage_1, dataclasses.replace(options, evaluate=False), output)
    assert again.outcome.rows == outcome.rows


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("LT_DET.LOSS", "sigmoid_ce", "LT_DET.CLASSIFIER.BIAS", False),
        ("LT_DET.CLASSIFIER.NAME", "cosine"),
        ("LT_DET.CLASSIFIER.NAME", "lws"),
    ],
)
def test_replay_is_the_model(tmp_path, options):
    cfg = untrained(tmp_path, *options, "LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH", 100)
    subject, _ = plan_balance(cfg, CALIBRATIONS, tmp_path / "balance")
    start = subject.own_classifiers()
    other = [tuple(torch.randn_like(part) for part in start[0])]
    evaluation = subject.evaluation()
    model = subject.model
    for classifiers in (start, other):
        if classifiers is not start:
            model = subject.write(tmp_path, classifiers, None).model
        batches = list(build_test_loader(subject.cfg, "digits_test"))
        with torch.no_grad():
            expected = [torch.stack([o["scores"] for o in model(batch)]) for batch in batches]
        found = [subject.replay.scores(x, classifiers) for x in evaluation._batches]
        for a, b in zip(found, expected, strict=True):
            # The factors of "lws" are multiplied into the weights of the start.
            if classifiers is start and "lws" in options:
                torch.testing.assert_close(a, b)
            else:
                assert torch.equal(a, b)
    # A cosine has no use for longer weights, LogN is of a softmax.
    assert subject.has_logn == (options == () or "lws" in options)
    names = {c.name.split()[0] for c in subject.calibrations()}
    assert names == ({"logit"} if "cosine" in options else {"logit", "tau-norm"})


def test_class_figures_count_an_image_as_often_as_its_weight():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 50), rng.integers(0, 4, 50).astype(np.int32)
    weights = rng.integers(0, 3, (6, 50)).astype(float)
    weights[0] = labels == 2
    truth, judged = ImageTruth(labels, 5), Predicted(predicted)
    found = truth.class_figures(judged, weights)
    for row, of_images in zip(found, weights):
        times = np.repeat(np.arange(50), of_images.astype(int))
        expected = class_accuracies(labels[times], predicted[times], num_classes=5)
        np.testing.assert_allclose(row, 100 * expected)
    some = truth.class_figures(judged, weights, classes=[1])
    np.testing.assert_array_equal(some[:, 1], found[:, 1])
    assert np.isnan(some[:, [0, 2, 3, 4]]).all()


def test_held_out_images_are_neither_trained_on_nor_reported_on(tmp_path):
    sets = [["part_train", "digits", "", "train"], ["digits_test", "digits", "", "test"]]
    keys = ("LT_DET.CLASSIFICATION.DATASETS", sets, "DATASETS.TRAIN", ("part_train",))
    cfg = untrained(tmp_path, *keys, "LT_DET.CLASSIFICATION.HELD_OUT", 0.2)
    options = BalanceOptions(train=False, choose_on="part_train_held_out")
    subject, rows = plan_balance(cfg, options, tmp_path / "balance")
    assert subject.notes == []
    assert rows[0].number == f"{len(subject.test_dicts)} of {len(subject.test_dicts)} images"
    few = BalanceOptions(train=False, images=20)
    subject, _ = plan_balance(cfg, few, tmp_path / "few")
    assert len(set(subject.truth.labels)) == 10
    assert "20 of 596 images of digits_test are chosen on." in subject.notes


@pytest.mark.parametrize(
    ("keys", "options", "words"),
    [
        (("MODEL.WEIGHTS", ""), {}, "MODEL.WEIGHTS is empty"),
        (("LT_DET.POST_HOC.TAU_NORM", 0.5), {}, "LT_DET.POST_HOC is set"),
        (("LT_DET.CLASSIFIER.DISALIGN", True), {}, "without DISALIGN"),
        ((), {"metric": "APr"}, "this model has mean_class, few, medium, many"),
        (("LT_DET.CLASSIFICATION.FEW_MAX", 0), {"metric": "few"}, "few: digits_test has too few"),
        ((), {"losses": ("sigmoid_ce",)}, "--add sigmoid_ce: it is of kind 'sigmoid'"),
        ((), {"losses": ("iif",)}, "--add iif: scores by iif_scores"),
    ],
)
def test_what_cannot_be_balanced_is_refused_before_anything_is_computed(
    tmp_path, keys, options, words
):
    cfg = untrained(tmp_path, *(keys if keys and "CLASSIFI" in keys[0] else ()))
    cfg.merge_from_list(list(keys))
    objective = objective_of(cfg, options.pop("metric", ""), "", 0.0)
    with pytest.raises(ValueError, match=words):
        run_balance(cfg, BalanceOptions(objective=objective, **options), tmp_path / "balance")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "balance").exists()


def test_repeat_factors_get_a_threshold_that_repeats(tmp_path):
    cfg = digits_config(tmp_path)
    stats = build_task(cfg).class_stats()
    rarest = min(stats.image_counts) / stats.num_images
    options = ("LT_DET.LOSS", "softmax_ce", "LT_DET.SAMPLER.NAME")

    def threshold(sampler, given):
        cfg.DATALOADER.REPEAT_THRESHOLD = given
        recipe = Recipe("sampled", "loss", (*options, sampler))
        found = training_config(cfg, recipe, iterations=10, dtype="float32")
        return found.DATALOADER.REPEAT_THRESHOLD

    assert threshold("repeat_factor", 0.0) > 2 * rarest
    assert threshold("repeat_factor", 1.5 * rarest) == 1.5 * rarest
    assert threshold("square_root", 0.0) == 0.0
