"""Post-hoc settings of a trained classifier, against its evaluation with the config's keys."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from lt_det.data.images.datasets import HELD_OUT
from lt_det.data.warn_once import warn_once
from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.loading.build import build_test_loader
from lt_det.engine.logit_moments import collect_logit_moments, moments_record
from lt_det.engine.trainer import LongTailTrainer
from lt_det.experiments.posthoc_sweep import PostHocPoint, post_hoc_points, run_post_hoc_sweep
from tests.engine.digits import CONFIG, digits_config
from tests.engine.test_image_classification import results_of, train
from tests.engine.tiny import tiny_config

TOOL = Path(__file__).resolve().parents[2] / "tools" / "posthoc_sweep.py"
POINTS = post_hoc_points(
    tau_norm=[0, 1.0, 1.0], logit_adjustment=[1.0], norcal=[0.7], nearest_mean=True
)
COSINE = ("LT_DET.CLASSIFIER.NAME", "cosine", "LT_DET.CLASSIFIER.BIAS", False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    cfg = digits_config(tmp_path_factory.mktemp("ce"), "SOLVER.MAX_ITER", 100)
    train(cfg)
    return f"{cfg.OUTPUT_DIR}/model_final.pth"


@pytest.fixture(scope="module")
def sweep(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    moments = str(folder / "moments.json")
    cfg = digits_config(folder, "MODEL.WEIGHTS", weights)
    with open(moments, "w") as file:
        json.dump(moments_record(cfg, collect_logit_moments(cfg)), file)
    run_post_hoc_sweep(cfg, [*POINTS, PostHocPoint("LogN")], folder, moments=moments)
    return folder


def found_by(sweep, name):
    content = json.loads((sweep / name / "results.json").read_text())
    return {k: v for k, v in content["results"]["classification"].items() if v is not None}


def evaluated(folder, *options):
    cfg = digits_config(folder, *options)
    results = LongTailTrainer.evaluate_checkpoint(cfg)["classification"]
    assert results_of(cfg)["top1"] == results["top1"]
    return results


def test_points():
    assert [p.name for p in POINTS] == [
        "as_trained",
        "tau_norm=1",
        "logit_adjustment=1",
        "norcal=0.7",
        "nearest_class_mean",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("as_trained", ()),
        ("tau_norm=1", ("LT_DET.POST_HOC.TAU_NORM", 1.0)),
        ("logit_adjustment=1", ("LT_DET.POST_HOC.LOGIT_ADJUSTMENT", 1.0)),
        ("norcal=0.7", ("LT_DET.POST_HOC.NORCAL", 0.7)),
        ("logn", ("LT_DET.POST_HOC.LOGN", "moments.json")),
        ("nearest_class_mean", COSINE),
    ],
)
def test_one_pass_finds_what_an_evaluation_with_the_keys_finds(
    tmp_path, weights, sweep, name, options
):
    mean = f"{sweep}/nearest_class_mean/model_final.pth"
    weights = mean if name == "nearest_class_mean" else weights
    options = tuple(f"{sweep}/{o}" if o == "moments.json" else o for o in options)
    expected = evaluated(tmp_path, "MODEL.WEIGHTS", weights, *options)
    assert found_by(sweep, name) == pytest.approx(expected)
    record = json.loads((sweep / name / "results.json").read_text())
    assert record["weights"] == weights
    assert (sweep / name / "inference" / "per_category_classification.csv").is_file()
    if name not in ("as_trained", "logn"):
        assert found_by(sweep, name)["few"] > found_by(sweep, "as_trained")["few"] + 5


def test_nearest_mean_is_scikit_learn_s_nearest_centroid(tmp_path, weights, sweep):
    """Of normalised features, and with normalised centroids, where it is the cosine."""
    from sklearn.neighbors import NearestCentroid
    from sklearn.preprocessing import normalize

    cfg = digits_config(tmp_path, "MODEL.WEIGHTS", weights)
    model = build_model(cfg).eval()
    load_evaluated_model(cfg, model, resume=False)

    def features_of(name):
        with torch.no_grad():
            batches = [
                (model.features(model.images(batch)), model.labels(batch))
                for batch in build_test_loader(cfg, name)
            ]
        features, labels = (torch.cat(column).numpy() for column in zip(*batches))
        return normalize(features.astype(np.float64)), labels

    oracle = NearestCentroid().fit(*features_of("digits_lt_train"))
    saved = torch.load(f"{sweep}/nearest_class_mean/model_final.pth", weights_only=True)["model"]
    np.testing.assert_allclose(saved["cls_score.weight"], oracle.centroids_, rtol=1e-5)
    oracle.centroids_ = normalize(oracle.centroids_)
    features, labels = features_of("digits_test")
    top1 = 100 * (oracle.predict(features) == labels).mean()
    assert found_by(sweep, "nearest_class_mean")["top1"] == pytest.approx(top1)


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("posthoc_sweep_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Options of a training set of which a part is held out, and a model trained without it."""
    name = "digits_held_for_sweep"
    sets = [[name, "digits", "", "train"], ["digits_test", "digits", "", "test"]]
    options = ("LT_DET.CLASSIFICATION.DATASETS", repr(sets), "DATASETS.TRAIN", f"('{name}',)")
    options += ("LT_DET.CLASSIFICATION.HELD_OUT", "0.2")
    cfg = digits_config(tmp_path_factory.mktemp("held"), *options, "SOLVER.MAX_ITER", 2)
    train(cfg)
    return name, options, f"{cfg.OUTPUT_DIR}/model_final.pth"


def test_tool_tabulates_on_held_out_images(tool, tmp_path, held_out, capsys):
    name, options, weights = held_out
    options = [*options, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    arguments = ["--config-file", str(CONFIG), "--weights", weights, weights, "--held-out"]
    arguments += ["--output", str(tmp_path / "out"), "--tau-norm", "1", "--logit-adjustment"]
    with pytest.raises(ValueError, match="HELD_OUT 0.1"):
        tool.main(arguments)
    tool.main([*arguments, "--", *options])
    printed = capsys.readouterr().out.splitlines()
    table = "\n".join(line for line in printed if line.startswith("|"))
    written = (tmp_path / "out" / "summary.md").read_text()
    assert written == f"On {name}{HELD_OUT}:\n\n{table}\n"
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    assert rows == [
        ["as trained", "", "2"],
        ["tau-norm", "1", "2"],
        ["nearest class mean", "", "2"],
    ]
    record = json.loads((tmp_path / "out/weights1/tau_norm=1/results.json").read_text())
    seen = json.loads(
        (
            tmp_path / "out/weights1/tau_norm=1/inference/per_category_classification.json"
        ).read_text()
    )
    assert record["weights"] == weights
    images = sum(row["num_test_images"] for row in seen["categories"])
    assert images == len(DatasetCatalog.get(f"{name}{HELD_OUT}"))


def test_models_that_have_seen_the_held_out_images(tmp_path, held_out, weights, caplog):
    name, options, trained_without = held_out
    options += ("DATASETS.TEST", (f"{name}{HELD_OUT}",))
    evaluated(tmp_path, *options, "MODEL.WEIGHTS", trained_without)
    cfg = digits_config(tmp_path, *options, "MODEL.WEIGHTS", weights)
    for evaluate in (
        LongTailTrainer.evaluate_checkpoint,
        lambda cfg: run_post_hoc_sweep(cfg, POINTS, tmp_path),
    ):
        with pytest.raises(
            ValueError, match=rf"\['{name}_held_out'\] is held out .* not trained wi"
        ):
            evaluate(cfg)
    # Bare weights do not say what they were trained on.
    state = torch.load(trained_without, weights_only=True)["model"]
    torch.save({"model": state}, tmp_path / "bare.pth")
    evaluated(tmp_path, *options, "MODEL.WEIGHTS", str(tmp_path / "bare.pth"))
    assert "does not say which images it was trained on" in caplog.text


def test_cosine_classifiers_have_no_tau_normalisation(tmp_path, caplog):
    model = build_model(digits_config(tmp_path, *COSINE))
    torch.save({"model": model.state_dict()}, tmp_path / "cosine.pth")
    cfg = digits_config(tmp_path, *COSINE, "MODEL.WEIGHTS", str(tmp_path / "cosine.pth"))
    points = post_hoc_points(tau_norm=[1.0], logit_adjustment=[1.0], nearest_mean=False)
    done = run_post_hoc_sweep(cfg, points, tmp_path / "sweep")
    assert [point.name for point in done] == ["as_trained", "logit_adjustment=1"]
    assert sorted(p.name for p in (tmp_path / "sweep").iterdir()) == [p.name for p in done]
    assert "No tau-normalisation: LT_DET.CLASSIFIER.NAME 'cosine'" in caplog.text


def test_what_it_is_not_for(tmp_path):
    detector = tiny_config(tmp_path)
    mean = post_hoc_points(nearest_mean=True)
    with pytest.raises(ValueError, match="LongTailImageClassifier, got 'GeneralizedRCNN'"):
        run_post_hoc_sweep(detector, mean, tmp_path)
    with pytest.raises(ValueError, match="LogN needs the moments .* --logn"):
        run_post_hoc_sweep(detector, post_hoc_points(logn=True), tmp_path)
    with pytest.raises(ValueError, match="FRACAL is of the boxes of a detector"):
        run_post_hoc_sweep(digits_config(tmp_path), post_hoc_points(fracal=[0.0]), tmp_path)
    cfg = digits_config(tmp_path, "DATASETS.TEST", ("digits_test", "digits_lt_train"))
    with pytest.raises(ValueError, match="must name one data set"):
        run_post_hoc_sweep(cfg, POINTS, tmp_path)
    cfg = digits_config(tmp_path, "LT_DET.POST_HOC.LOGIT_ADJUSTMENT", 1.0)
    with pytest.raises(ValueError, match="POST_HOC.LOGIT_ADJUSTMENT would do nothing"):
        run_post_hoc_sweep(cfg, POINTS, tmp_path)
    close = [PostHocPoint("tau-norm", tau) for tau in (0.1234567, 0.12345671)]
    with pytest.raises(ValueError, match="0.1234567 and 0.12345671 would have the same folder"):
        run_post_hoc_sweep(digits_config(tmp_path), close, tmp_path)
    with pytest.raises(ValueError, match="would have the same folder"):
        post_hoc_points(tau_norm=[], logit_adjustment=[p.tau for p in close], nearest_mean=False)


def test_a_detector_is_evaluated_with_each_setting(tmp_path):
    cfg = tiny_config(tmp_path)
    LongTailCheckpointer(build_model(cfg), str(tmp_path)).save("start")
    cfg.MODEL.WEIGHTS = str(tmp_path / "start.pth")
    points = post_hoc_points(norcal=[0.6], fracal=[2.0])
    assert run_post_hoc_sweep(cfg, points, tmp_path / "out") == points
    for name, key, value in (
        ("as_trained", "NORCAL", 0.0),
        ("norcal=0.6", "NORCAL", 0.6),
        ("fracal=2", "FRACAL", 2.0),
    ):
        folder = tmp_path / "out" / name
        assert json.loads((folder / "results.json").read_text())["results"]["bbox"]
        written = yaml.safe_load((folder / "config.yaml").read_text())
        assert written["LT_DET"]["POST_HOC"][key] == value


def test_a_second_correction_is_warned_of(tmp_path, weights, caplog):
    warn_once.cache_clear()
    options = ("LT_DET.LOSS", "balanced_softmax", "MODEL.WEIGHTS", weights)
    run_post_hoc_sweep(digits_config(tmp_path, *options), POINTS[:2], tmp_path)
    assert "corrected for twice" not in caplog.text
    run_post_hoc_sweep(digits_config(tmp_path, *options), POINTS[:3], tmp_path)
    assert "LT_DET.LOSS 'balanced_softmax' takes out already" in caplog.text
