"""The study's configs, and its runner with a script in place of the training."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.engine.startup.config_checks import check_config
from lt_det.engine.startup.setup import load_config, read_config

REPOSITORY = Path(__file__).resolve().parents[1]

TRAINING = textwrap.dedent(
    """
    import json, pathlib, sys
    config = pathlib.Path(sys.argv[sys.argv.index("--config-file") + 1])
    words = sys.argv[sys.argv.index("--config-file") + 2 :]
    options = dict(zip(words[::2], words[1::2]))
    folder = pathlib.Path(options["OUTPUT_DIR"])
    assert config.is_file() and config.stem.endswith(folder.name), (config, folder)
    assert "--resume" in sys.argv
    weights = options.get("MODEL.WEIGHTS")
    if weights:
        assert pathlib.Path(weights).is_file(), weights
        assert pathlib.Path(weights).parent.parent == folder.parent
    if folder.name == options.get("DATALOADER.SAMPLER_TRAIN"):
        sys.exit(3)
    (folder / "model_final.pth").touch()
    with open(folder / "calls", "a") as file:
        file.write("x")
    record = {"sets": options["LT_DET.CLASSIFICATION.DATASETS"], "weights": weights}
    (folder / "record.json").write_text(json.dumps(record))
    top1 = len(folder.name) + 10 * int(options["SEED"])
    results = {"classification": {"top1": top1, "many": 1.0, "medium": 2.0, "few": None}}
    (folder / "results.json").write_text(json.dumps({"results": results}))
    """
)
STAGE_2 = {"crt", "balanced_softmax_decoupled", "balms", "balanced_softmax_reweighter"}


@pytest.fixture(autouse=True)
def no_sets_of_other_tests():
    """A name belongs to one data set in a process, and configs share names."""
    for name in [name for name in DatasetCatalog.list() if name.startswith("cifar10")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def study():
    path = REPOSITORY / "tools" / "classification_study.py"
    spec = importlib.util.spec_from_file_location("classification_study", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def runner(study, tmp_path, monkeypatch):
    """Return the study's main with another training, its output and its data."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train_net.py").write_text(TRAINING)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.setattr(study, "REPOSITORY", tmp_path)
    data = tmp_path / "cifar.npz"
    data.touch()

    def run(*words):
        study.main(["--data", str(data), "--output", str(tmp_path / "out"), *words])

    return run


def cells(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_every_method_runs_once_a_seed_and_second_stages_from_its_ce(
    study, runner, tmp_path, parallel, capsys
):
    for _ in range(2):  # the second call keeps what is there
        runner("--seeds", "0", "1", "--parallel", parallel)
    folders = list((tmp_path / "out").glob("seed*/*"))
    assert len(folders) == 2 * len(study.METHODS)
    for folder in folders:
        assert (folder / "calls").read_text() == "x"
        record = json.loads((folder / "record.json").read_text())
        assert record["sets"].count(str(tmp_path / "cifar.npz")) == 2
        assert "'npz'" in record["sets"]
        start = str(folder.parent / "ce" / "model_final.pth")
        assert record["weights"] == (start if folder.name in STAGE_2 else None)
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert summary.strip() in capsys.readouterr().out
    rows, minus_ce, minus_bs = (cells(t) for t in re.split(r"Minus .*", summary))
    assert len(rows) == 2 + len(study.METHODS)
    assert rows[2] == [
        "CE",
        "77.4 ± 0.8",
        "71.4 ± 0.5",
        "2",
        "7.0 ± 7.1",
        "1.0 ± 0.0",
        "2.0 ± 0.0",
        "–",
    ]
    assert len(minus_ce) == len(minus_bs) == 1 + len(study.METHODS)
    # Seed by seed, so that what all methods owe to the seed is gone.
    assert [row[2] for row in minus_ce if row[0] == "BALMS (Meta Sampler)"] == ["3.0 ± 0.0"]
    assert [row[2] for row in minus_bs if row[0] == "CE"] == ["-14.0 ± 0.0"]


def record_configs(output):
    """Write what a training would write down, from its command."""
    for log in output.glob("seed*/*/stdout.txt"):
        words = shlex.split(log.read_text().splitlines()[0])
        place = words.index("--config-file")
        cfg = read_config(words[place + 1], words[place + 2 :])
        (log.parent / "config.yaml").write_text(cfg.dump())
        results = log.parent / "results.json"
        record = {**json.loads(results.read_text()), "iterations": cfg.SOLVER.MAX_ITER}
        results.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["--recipe", "paper"], "LT_DET.CIFAR_RESNET.DEPTH: 14, now 32"),
        (["--", "SOLVER.MAX_ITER", "1"], "SOLVER.MAX_ITER: 2907, now 1"),
        (["--", "LT_DET.CLASSIFICATION.SUBSET_SEED", "1"], "SUBSET_SEED: 0, now 1"),
    ],
)
def test_finished_runs_of_other_settings_are_refused(study, runner, tmp_path, asked, names):
    study.METHODS, methods = study.METHODS[:2], study.METHODS
    try:
        runner()
        record_configs(tmp_path / "out")
        runner()
        with pytest.raises(ValueError, match=r"out.seed0.ce holds a finished run") as error:
            runner(*asked)
    finally:
        study.METHODS = methods
    assert names in str(error.value)
    assert "--output" in str(error.value)
    calls = list((tmp_path / "out").glob("seed0/*/calls"))
    assert [path.read_text() for path in calls] == ["x", "x"]


def test_differences_are_to_a_baseline_of_the_same_recipe(study):
    schedules = {
        method: repr((cfg := config_of(study, "paper", method.config)).SOLVER.IMS_PER_BATCH)
        + str(cfg.LT_DET.CLASSIFICATION.TRANSFORM)
        for method in study.methods_of("paper")
    }
    compared = study.comparisons("paper")
    assert [b.config for b, _ in compared] == ["stage1", "ce", "balanced_softmax"]
    for baseline, methods in compared:
        assert {schedules[m] for m in methods} == {schedules[baseline]}
    (_, balms), (_, eureka), _ = compared
    assert sorted([*balms, *eureka], key=str) == sorted(study.methods_of("paper"), key=str)


def test_recipes_have_an_output_each(study):
    outputs = {
        study.parse_arguments(["--data", "x", "--recipe", recipe]).output
        for recipe in study.RECIPES
    }
    assert len(outputs) == len(study.RECIPES)


def test_the_papers_recipes_start_second_stages_from_the_softmax_model_of_balms(runner, tmp_path):
    runner("--recipe", "paper", "--seeds", "3")
    for method in STAGE_2:
        record = json.loads((tmp_path / "out" / "seed3" / method / "record.json").read_text())
        assert record["weights"] == str(tmp_path / "out" / "seed3" / "stage1" / "model_final.pth")


def test_the_memorised_recipe_compares_meta_learners_with_the_same_loss(study, runner, tmp_path):
    runner("--recipe", "memorised")
    names = {folder.name for folder in (tmp_path / "out" / "seed0").iterdir()}
    assert names == {"ce", "balanced_softmax", *STAGE_2} - {"crt"}
    for method in names & STAGE_2:
        record = json.loads((tmp_path / "out" / "seed0" / method / "record.json").read_text())
        assert record["weights"] == str(tmp_path / "out" / "seed0" / "ce" / "model_final.pth")
        assert config_of(study, "memorised", method).LT_DET.CLASSIFICATION.HELD_OUT == 0.75
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert re.findall(r"Minus (.*), seed", summary) == ["BS decoupled", "Balanced Softmax"]


def test_a_failed_training_names_its_log(runner):
    with pytest.raises(RuntimeError, match=r"status 3; see .*crt.stdout.txt"):
        runner("--", "DATALOADER.SAMPLER_TRAIN", "crt")


def test_missing_data_is_found_before_anything_runs(study, tmp_path):
    with pytest.raises(SystemExit, match="does not exist"):
        study.main(["--data", str(tmp_path / "none.npz"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_data_may_be_cifar_s_own_folder(study, tmp_path):
    cfg = load_config(str(REPOSITORY / study.CONFIGS / "cifar10_lt_ce.yaml"))
    folder = tmp_path / "cifar-10-batches-py"
    sets = study.data_sets(cfg, folder)
    assert [(kind, path) for _, kind, path, _ in sets] == 2 * [("cifar10", str(folder))]
    assert [split for *_, split in sets] == ["train", "test"]
    assert [name for name, *_ in sets] == [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]


def config_of(study, recipe, config):
    file = str(REPOSITORY / study.CONFIGS / f"{study.PREFIX}{config}.yaml")
    options = study.recipe_options(read_config(file), recipe)
    cfg = load_config(file, ["MODEL.DEVICE", "cpu", *options])
    check_config(cfg)
    return cfg


@pytest.mark.parametrize(
    ("config", "ending"), [("balanced_softmax", ""), ("lws", "_stage2"), ("ldam_drw", "_deferred")]
)
def test_the_reduced_recipe_is_one_more_base(study, tmp_path, config, ending):
    """As the first lines of schedule_reduced.yaml say."""
    file = tmp_path / "mine.yaml"
    schedule = f"lt_det://classification/_base_/schedule_reduced{ending}.yaml"
    file.write_text(f"_BASE_: ['lt_det://cifar10_lt_{config}.yaml', '{schedule}']\n")
    assert read_config(str(file), ["MODEL.DEVICE", "cpu"]).dump() == (
        config_of(study, "reduced", config).dump()
    )


CB = {"CLASS_WEIGHTS.NAME": "effective_number", "CLASS_WEIGHTS.DENOMINATOR": "weights"}
DEFERRED = {
    "DEFER.START_EPOCH": {"reduced": 12.0, "paper": 0.0},
    "DEFER.START_ITER": {"reduced": 0, "paper": 15520},
}
#: config -> what of LT_DET is not as cross-entropy has it; the rest must be
DIFFERS = {
    "ce": {},
    "balanced_softmax": {"LOSS": "balanced_softmax"},
    "balanced_softmax_quarter": {
        "LOSS": "balanced_softmax",
        "LOSS_PARAMS.BALANCED_SOFTMAX.TAU": 0.25,
    },
    "focal": {"LOSS": "softmax_focal"},
    "class_balanced": CB,
    "ldam_drw": {
        "LOSS": "ldam",
        "CLASSIFIER.NAME": "cosine",
        "CLASSIFIER.SCALE": 30.0,
        "CLASSIFIER.BIAS": False,
        **CB,
        **DEFERRED,
    },
    "eureka": {"LOSS": "softmax_eureka"},
    "eureka_deferred": {
        "LOSS": "softmax_eureka",
        "DEFER.LOSS": "softmax_ce",
        **DEFERRED,
    },
    "eureka_cb_deferred": {
        "LOSS": "softmax_eureka",
        **CB,
        "DEFER.LOSS": "softmax_ce",
        **DEFERRED,
    },
    "halted_focal_0.4": {
        "LOSS": "softmax_halted_focal",
        "LOSS_PARAMS.SOFTMAX_HALTED_FOCAL.TAIL_FRACTION": 0.4,
    },
    "crt": {"SAMPLER.NAME": "class_balanced"},
    "balanced_softmax_decoupled": {"LOSS": "balanced_softmax"},
    "balms": {
        "LOSS": "balanced_softmax",
        "META.ENABLED": True,
        "META.METHOD": "sampler",
        "META.LR": 0.01,
        "META.BETAS": [0.9, 0.99],
    },
    "balanced_softmax_reweighter": {
        "LOSS": "balanced_softmax",
        "META.ENABLED": True,
        "META.LR": 0.01,
        "META.BETAS": [0.9, 0.99],
    },
}
#: What a recipe sets, and not a method.
OF_RECIPE = ("CLASSIFICATION.", "CIFAR_RESNET.", "DECOUPLED", "RESET_CLASSIFIER", "REGION_CACHE.")


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("recipe", ["reduced", "paper"])
def test_a_method_is_what_differs_from_cross_entropy(study, recipe):
    assert {m.config for m in study.METHODS} == set(DIFFERS)
    plain = dict(flat(load_config("").LT_DET))
    for method, expected in DIFFERS.items():
        cfg = config_of(study, recipe, method)
        found = {
            key: value
            for key, value in flat(cfg.LT_DET)
            if value != plain.get(key) and not key.startswith(OF_RECIPE)
        }
        expected = {k: v[recipe] if isinstance(v, dict) else v for k, v in expected.items()}
        expected = {k: v for k, v in expected.items() if v != plain[k]}
        assert found == expected, method


@pytest.mark.parametrize(
    ("config", "images"), [("cifar10_lt_ce", 12406), ("cifar100_lt_ce", 10847)]
)
def test_two_hundred_epochs_are_two_hundred(study, config, images):
    solver = load_config(str(REPOSITORY / study.CONFIGS / f"{config}.yaml")).SOLVER
    epoch = math.ceil(images / solver.IMS_PER_BATCH)
    found = [solver.WARMUP_ITERS, *solver.STEPS, solver.MAX_ITER]
    assert found == [epochs * epoch for epochs in (5, 160, 180, 200)]


@pytest.mark.parametrize("method", ["ldam_drw", "eureka_deferred", "eureka_cb_deferred"])
def test_deferral_begins_with_the_first_step(study, method):
    cfg = config_of(study, "paper", method)
    first_step, _ = cfg.SOLVER.STEPS
    assert first_step == cfg.LT_DET.DEFER.START_ITER


@pytest.mark.parametrize("recipe", ["reduced", "paper"])
def test_methods_share_data_model_and_schedule(study, recipe):
    """But for the second stages, which share theirs, and the two papers' schedules."""
    groups = {}
    for method in study.methods_of(recipe):
        cfg = config_of(study, recipe, method.config)
        assert (method.config in STAGE_2) == cfg.LT_DET.DECOUPLED
        assert cfg.LT_DET.RESET_CLASSIFIER == cfg.LT_DET.DECOUPLED
        shared = [cfg.MODEL, cfg.DATASETS, cfg.DATALOADER, cfg.LT_DET.CLASSIFICATION.DATASETS]
        groups.setdefault(repr(shared), []).append(method)
        own = [cfg.SOLVER, cfg.LT_DET.CLASSIFICATION, cfg.LT_DET.REGION_CACHE]
        groups.setdefault(repr(own), []).append(method.config)
        assert cfg.LT_DET.CLASSIFICATION.IMBALANCE_FACTOR == 100
    data, *schedules = groups.values()
    assert len(data) == len(study.methods_of(recipe))
    schedules = [set(names) for names in schedules]
    assert STAGE_2 in schedules
    if recipe == "reduced":
        assert len(schedules) == 2
    else:
        balms = {"stage1", "balanced_softmax", "balanced_softmax_quarter"}
        assert len(schedules) == 3
        assert balms in schedules
        assert config_of(study, recipe, "crt").SOLVER.MAX_ITER == 2000
        # The same augmentation in both stages.
        crt, stage_1 = (config_of(study, recipe, m) for m in ("crt", "stage1"))
        assert crt.LT_DET.CLASSIFICATION == stage_1.LT_DET.CLASSIFICATION
