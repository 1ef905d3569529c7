"""Every config loads, builds a model with our heads, and says how it is run."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from detectron2 import model_zoo
from detectron2.modeling import build_model

from lt_det.config import add_lt_det_config
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.roi.roi_heads import box_predictors

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "configs"


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@functools.cache
def as_read(path: Path):
    """Return a config, once for all tests that only look at it."""
    return read_config(str(path))


ALL = [path for path in sorted(FOLDER.rglob("*.yaml")) if "_base_" not in path.parts]
DETECTORS = [path for path in ALL if path.parent.name != "classification"]
CONFIGS = [path for path in DETECTORS if path.parent.name != "demo"]
RETINANET_CONFIGS = [path for path in DETECTORS if "retinanet" in path.name]
ROI_CONFIGS = [path for path in DETECTORS if "retinanet" not in path.name]


@pytest.fixture
def _weights_undrawn(monkeypatch):
    """Leave the weights of models undrawn: nobody reads them, and drawing takes half the time."""
    for method in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, method, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("_weights_undrawn")
@pytest.mark.parametrize("path", ROI_CONFIGS, ids=name)
def test_builds_a_model(path):
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    predictors = list(box_predictors(model))
    assert len(predictors) == (3 if "cascade" in path.name else 1)
    for predictor in predictors:
        num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        extra = len(predictor.criterion.extra_columns(background=True))
        assert predictor.cls_score.out_features == num_classes + extra
    # A second stage says so, and waits for its weights.
    second = any(word in path.name for word in ("balms", "balanced", "finetune"))
    assert second == cfg.LT_DET.DECOUPLED
    assert ("balms" in path.name) == cfg.LT_DET.META.ENABLED


@pytest.mark.usefixtures("_weights_undrawn")
@pytest.mark.parametrize("path", RETINANET_CONFIGS, ids=name)
def test_builds_a_retinanet(path):
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    num_classes = cfg.MODEL.RETINANET.NUM_CLASSES
    assert isinstance(model, LongTailRetinaNet)
    assert num_classes == {"coco": 80, "lvis_v1": 1203}.get(path.parent.name, num_classes)
    assert model.head.cls_score.out_channels == num_classes * model.head.bbox_pred.out_channels / 4
    assert model.criterion.name == cfg.LT_DET.LOSS
    assert cfg.MODEL.WEIGHTS or "demo" in path.parts
    if path.parent.name == "lvis_v1":
        assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        assert cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"


def schedule_in_header(path: Path) -> list[str]:
    """Return the KEY VALUE pairs of the other schedule that a config names."""
    (pairs,) = re.findall(r"^# The paper's schedule; .*: (SOLVER.*)$", path.read_text(), re.M)
    return pairs.split()


def test_retinanet_is_detectron2_s_but_for_the_loss():
    """The config with focal loss, in Detectron2's 1x, against the model zoo's."""
    path = FOLDER / "coco" / "retinanet_r50_focal.yaml"
    ours = load_config(str(path), schedule_in_header(path))
    stock = load_config("")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the yaml that is allowed to run code
        zoo = model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
        stock.merge_from_file(zoo, allow_unsafe=True)
    ours.MODEL.META_ARCHITECTURE = stock.MODEL.META_ARCHITECTURE
    ours.OUTPUT_DIR, ours.LT_DET.LOSS = stock.OUTPUT_DIR, stock.LT_DET.LOSS
    assert yaml.safe_load(ours.dump()) == yaml.safe_load(stock.dump())


# loss -> (LOSS, alpha, gamma, mode): the paper's text, and the commands of its release
RETINANET_LOSSES = {
    "ce": ("focal", 0.75, 0.0, None),
    "focal": ("focal", 0.25, 2.0, None),
    "focal_release": ("focal", 0.5, 1.0, None),
    "halted_focal": ("halted_focal", 0.25, 2.0, "p_t"),
    "halted_focal_release": ("halted_focal", 0.5, 1.0, "release"),
    "focal_halted_tail": ("halted_focal", 0.25, 2.0, "positives"),
    "focal_halted_tail_release": ("halted_focal", 0.5, 1.0, "positives"),
    "eureka": ("eureka", 0.25, 2.0, None),
}


@pytest.mark.parametrize("schedule", ["paper", "1x"])
@pytest.mark.parametrize("loss", sorted(RETINANET_LOSSES))
def test_retinanet_losses_and_schedules(loss, schedule):
    path = FOLDER / "coco" / f"retinanet_r50_{loss}.yaml"
    cfg = load_config(str(path), schedule_in_header(path) if schedule == "1x" else [])
    assert f"output/coco/{path.stem}{'_1x' * (schedule == '1x')}" == cfg.OUTPUT_DIR
    params = cfg.LT_DET.LOSS_PARAMS[cfg.LT_DET.LOSS.upper()]
    found = (cfg.LT_DET.LOSS, params.ALPHA, params.GAMMA, params.get("MODE"))
    assert found == RETINANET_LOSSES[loss]
    solver = cfg.SOLVER
    batch = (8, 0.005) if schedule == "paper" else (16, 0.01)
    assert batch == (solver.IMS_PER_BATCH, solver.BASE_LR)
    assert (solver.MAX_ITER, solver.STEPS) == (90000, (60000, 80000))


def test_lvis_v0_5_has_the_schedules_of_paper_and_release():
    def schedule(name: str, options: list[str]) -> tuple:
        solver = load_config(str(FOLDER / "lvis_v0.5" / name), options).SOLVER
        return solver.IMS_PER_BATCH, solver.BASE_LR, solver.STEPS, solver.MAX_ITER

    one, two = "stage1_sigmoid_r50.yaml", "balanced_sigmoid_r50.yaml"
    rest = ((60000, 80000), 90000), ((11000, 18000), 22000)
    assert schedule(one, []) == (8, 0.01, *rest[0])
    assert schedule(two, []) == schedule("balms_r50.yaml", []) == (8, 0.02, *rest[1])
    release = {p: schedule_in_header(FOLDER / "lvis_v0.5" / p)[:4] for p in (one, two)}
    assert release[one] == release[two]  # so that one command trains both stages
    assert schedule(one, release[one]) == (16, 0.02, *rest[0])
    assert (
        schedule(two, release[two])
        == schedule("balms_r50_release.yaml", [])
        == (16, 0.02, *rest[1])
    )
    assert " ".join(release[one]) in (FOLDER / "lvis_v0.5" / "balms_r50_release.yaml").read_text()


def test_no_two_configs_differ_in_the_schedule_only():
    """What trains the same for longer is one config, its header names the other schedule."""
    seen: dict[str, Path] = {}
    for path in ALL:
        cfg = as_read(path).clone()
        del cfg["SOLVER"], cfg["OUTPUT_DIR"]
        other = seen.setdefault(cfg.dump(), path)
        assert other is path, f"{name(path)} is {name(other)} but for SOLVER and OUTPUT_DIR"


class _UniqueKeys(yaml.SafeLoader):
    """yaml takes the last of two equal keys without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: a key twice in {keys}"
        return super().construct_mapping(node, deep=deep)


def test_no_key_is_there_twice():
    for path in FOLDER.rglob("*.yaml"):
        with open(path) as file:
            yaml.load(file, Loader=_UniqueKeys)  # noqa: S506


@pytest.mark.parametrize("path", ROI_CONFIGS, ids=name)
def test_price_does_not_grow_with_the_classes(path):
    cfg = load_config(str(path))
    if not cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK:
        assert cfg.MODEL.ROI_MASK_HEAD.NAME == "LongTailMaskHead"
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        assert cfg.LT_DET.FAST_BOX_REGRESSION


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_first_line_is_the_command(path):
    first = path.read_text().splitlines()[0]
    assert f"configs/{name(path)}" in first
    assert "tools/train_net.py" in first
    for other in re.findall(r"configs/([\w./]+\.yaml)", path.read_text()):
        assert (FOLDER / other).is_file(), other
    for stem in re.findall(r"output/([\w./]+)/model_final", path.read_text()):
        assert (FOLDER / f"{stem}.yaml".replace("_release/", "/")).is_file(), stem


@pytest.mark.parametrize("path", DETECTORS, ids=name)
def test_output_folder_is_the_config_s_own(path):
    assert f"output/{name(path)}" == as_read(path).OUTPUT_DIR + ".yaml"


def test_configs_named_in_the_readme_exist():
    pages = ("README.md", "docs/how-to/lvis.md")
    readme = "\n".join((REPOSITORY / page).read_text() for page in pages)
    for path in re.findall(r"configs/[\w./]+\.yaml", readme):
        # configs/my_*.yaml are the reader's own.
        assert path.startswith("configs/my_") or (REPOSITORY / path).is_file(), path
    for stem in re.findall(
        r"`((?:lvis_v1|lvis_v0\.5|coco)/\w+|lvis_(?:balms|stage1)_\w+)`", readme
    ):
        assert (FOLDER / f"{stem}.yaml").is_file(), stem


def test_presets_of_the_meta_step_differ_as_documented():
    paper, release = (
        yaml.safe_load((REPOSITORY / f"configs/_base_/meta_{n}.yaml").read_text())["LT_DET"]["META"]
        for n in ("paper", "release")
    )
    assert (paper["LR"], paper["LOSS"], paper["INNER_STEP"]) == (0.001, "plain", "sgd")
    assert (release["LR"], release["LOSS"], release["INNER_STEP"]) == (
        0.01,
        "balanced",
        "optimizer",
    )


def test_adding_the_keys_twice_changes_nothing():
    cfg = load_config("", ["LT_DET.LOSS", "balanced_softmax", "LT_DET.PRIOR_PROB", "0.01"])
    before = cfg.dump()
    add_lt_det_config(cfg)
    assert cfg.dump() == before


def test_defaults_are_those_of_the_signatures():
    node = load_config("").LT_DET
    assert node.LOSS == "softmax_ce"
    assert node.LOSS_PARAMS.BALANCED_SOFTMAX.TAU == 1.0
    assert node.LOSS_PARAMS.BALANCED_SIGMOID.KEEP_CONSTANT is False
    assert node.PRIOR_PROB == 0.001
    assert node.RETINANET.NORMALIZER == "global"
    assert (node.META.LR, list(node.META.BETAS), node.META.INNER_STEP) == (
        0.001,
        [0.9, 0.999],
        "sgd",
    )


LVIS = [path for path in CONFIGS if "lvis" in name(path)]
RELEASES = [p for p in LVIS if re.search("# The release[: (]", p.read_text())]
SCHEDULES = {22000: "22,000", 90000: "90,000", 150000: "2x", 180000: "180,000"}
SAMPLERS = {"": "RFS", "class_aware": "class-aware", "irfs": "IRFS", "eirfs_release": "E-IRFS"}
MASKS = {"conv": "mask predictor plain", "normed": "mask predictor normed"}


@pytest.mark.parametrize("path", LVIS, ids=name)
def test_a_config_for_lvis_says_its_protocol(path):
    """What is worth as much as the method, in the header, as the config has it."""
    head = path.read_text().partition("_BASE_")[0]
    words = re.sub(r"\n# ", " ", head)
    cfg = as_read(path)
    sampler, dense = cfg.LT_DET.SAMPLER.NAME, "retinanet" in path.name
    needed = ["sampler", SAMPLERS[sampler], "schedule", SCHEDULES[cfg.SOLVER.MAX_ITER], "test NMS"]
    needed += ["head", "RetinaNet" if dense else cfg.LT_DET.CLASSIFIER.NAME]
    needed.append("no mask predictor" if dense else MASKS[cfg.LT_DET.MASK_PREDICTOR.NAME])
    for word in needed:
        assert word in words, f"{word} is missing"
    node = cfg.MODEL.RETINANET if dense else cfg.MODEL.ROI_HEADS
    stated = re.findall(r"test NMS (?:not stated \(here )?(0\.\d)", words)
    assert str(node.NMS_THRESH_TEST) in stated
    if not sampler:
        assert cfg.DATALOADER.REPEAT_THRESHOLD == 0.001
    # Of those without another's protocol beside it every word is the config's.
    if " Protocol: " in words:
        assert f"RFS 0.001, schedule {cfg.SOLVER.MAX_ITER:,} iterations of " in words
        assert f"iterations of {cfg.SOLVER.IMS_PER_BATCH} images" in words
        assert (" of the classifier alone" in words) == cfg.LT_DET.DECOUPLED
        softmax = cfg.LT_DET.LOSS in ("softmax_ce", "balanced_softmax")
        columns = "K + 1 softmax" if softmax else "K sigmoid"
        assert f"with {columns}" in words
        return
    assert path in RELEASES
    names = {"softmax_ce": "", "equilibrium": "loce"}  # a sampler or correction; LOCE's loss
    assert names.get(cfg.LT_DET.LOSS, cfg.LT_DET.LOSS) in path.name


def test_methods_with_another_nms():
    """GOL and FRACAL (and APA, which needs a backbone that is not here) test at 0.3."""
    found = {p.stem: as_read(p).MODEL.ROI_HEADS.NMS_THRESH_TEST for p in RELEASES}
    assert {name for name, value in found.items() if value == 0.3} == {
        "gol_r50",
        "gumbel_r50",
        "fracal_r50",
    }
    assert set(found.values()) == {0.3, 0.5}
    assert len(found) >= 20
