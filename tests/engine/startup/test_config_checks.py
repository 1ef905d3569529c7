"""What a config must not say is said before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.engine.startup.config_checks import check_config
from lt_det.engine.startup.setup import load_config
from lt_det.engine.startup.world_size import scale_to_world_size
from lt_det.engine.trainer import LongTailTrainer
from lt_det.tasks import build_class_stats
from tests.engine.tiny import tiny_config, write_tiny_lvis


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH must be at least 1, got 0"),
        ({"TEST__DETECTIONS_PER_IMAGE": -2}, "TEST.DETECTIONS_PER_IMAGE must .* LVIS's metric"),
        ({"LT_DET__META__IMS_PER_BATCH": -2}, "META.IMS_PER_BATCH must be at least 0, got -2"),
        (
            {"LT_DET__META__BANK_RENEWAL": -0.1},
            "LT_DET.META.BANK_RENEWAL must be a finite number of at least 0, got -0.1",
        ),
        ({"SOLVER__BASE_LR": float("inf")}, "SOLVER.BASE_LR must be a finite number of at least 0"),
        ({"SOLVER__WEIGHT_DECAY": float("inf")}, "SOLVER.WEIGHT_DECAY must be a finite number"),
        ({"SOLVER__WARMUP_FACTOR": float("nan")}, "SOLVER.WARMUP_FACTOR must be a finite number"),
        ({"SOLVER__WARMUP_ITERS": -5}, "SOLVER.WARMUP_ITERS must be a finite number of at least 0"),
        ({"SOLVER__GAMMA": -1.0}, "SOLVER.GAMMA must be a finite number of at least 0, got -1.0"),
        ({"SOLVER__MOMENTUM": 2.0}, "SOLVER.MOMENTUM must be at least 0 and below 1, got 2.0"),
        ({"MODEL__PIXEL_STD": [1.0, 0.0, 1.0]}, "PIXEL_STD must each be a finite number above 0"),
        ({"MODEL__DEVICE": "quantum"}, "MODEL.DEVICE 'quantum' is none: expected such as cuda"),
        ({"LT_DET__META__BANK_IMAGES": 0}, "LT_DET.META.BANK_IMAGES must be at least 1, got 0"),
        ({"LT_DET__REGION_CACHE__EPOCHS": 0}, "REGION_CACHE.EPOCHS must be at least 1, got 0"),
        ({"LT_DET__REGION_CACHE__SEED": -1}, "REGION_CACHE.SEED must be at least 0, got -1"),
        ({"SOLVER__CHECKPOINT_PERIOD": 0}, "SOLVER.CHECKPOINT_PERIOD must be at least 1, got 0"),
        ({"SOLVER__MAX_ITER": 0}, "SOLVER.MAX_ITER must be at least 1, got 0"),
        ({"SOLVER__MAX_ITER": -3}, "SOLVER.MAX_ITER must be at least 1, got -3"),
        ({"LT_DET__CLASSIFIER__SCALE": 0.0}, "CLASSIFIER.SCALE must be a finite number above 0"),
        ({"LT_DET__META__LR": float("inf")}, "META.LR must be a finite number above 0, got inf"),
        ({"LT_DET__META__LR": float("nan")}, "META.LR must be a finite number above 0, got nan"),
        (
            {
                "LT_DET__META__ENABLED": True,
                "LT_DET__DECOUPLED": True,
                "LT_DET__META__BETAS": [0.9],
            },
            r"LT_DET.META.BETAS must be two numbers in \[0, 1\), got \[0.9\]",
        ),
        (
            {
                "LT_DET__META__ENABLED": True,
                "LT_DET__DECOUPLED": True,
                "LT_DET__CLASS_WEIGHTS__NAME": "effective_number",
                "LT_DET__CLASS_WEIGHTS__DENOMINATOR": "weights",
            },
            "divides the loss by the rows.*DENOMINATOR 'rows', got 'weights'",
        ),
        (
            {"MODEL__ROI_HEADS__NAME": "StandardROIHeads", "LT_DET__LOSS": "balanced_softmax"},
            "LT_DET.LOSS would do nothing.*'StandardROIHeads'.*LongTailROIHeads",
        ),
        (
            {
                "MODEL__ROI_HEADS__NAME": "StandardROIHeads",
                "LT_DET__CLASS_WEIGHTS__NAME": "effective_number",
            },
            "LT_DET.CLASS_WEIGHTS would do nothing",
        ),
        (
            {
                "LT_DET__MASK_PREDICTOR__NAME": "normed",
                "MODEL__MASK_ON": True,
                "MODEL__ROI_MASK_HEAD__NAME": "MaskRCNNConvUpsampleHead",
            },
            "LT_DET.MASK_PREDICTOR would do nothing: .* True and 'MaskRCNNConvUpsampleHead'",
        ),
        (
            {"LT_DET__CLASS_STATS__UNIT": "instance", "LT_DET__LOSS": "balanced_sigmoid"},
            "set LT_DET.CLASS_STATS.UNIT image",
        ),
        ({"LT_DET__EVAL__ANALYSIS": "yes"}, r"LT_DET.EVAL.ANALYSIS must be one of .*, got 'yes'"),
        ({"LT_DET__EVAL__BACKEND": "hotcoc"}, r"LT_DET.EVAL.BACKEND 'hotcoc'.*expected one of"),
    ],
)
def test_refused_before_training(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        LongTailTrainer(tiny_config(tmp_path, **keys))


def test_the_results_need_a_folder(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.OUTPUT_DIR = ""
    with pytest.raises(ValueError, match="OUTPUT_DIR must be the path of a folder"):
        LongTailTrainer(cfg)


def test_detectron2_s_head_with_its_own_loss_is_fine(tmp_path):
    cfg = tiny_config(tmp_path, MODEL__ROI_HEADS__NAME="StandardROIHeads", DATASETS__TEST=())
    LongTailTrainer(cfg)


class TestTestSets:
    def test_misspelt(self, tmp_path):
        cfg = tiny_config(tmp_path, DATASETS__TEST=("lvis_v1_vall",))
        with pytest.raises(KeyError, match=r"DATASETS.TEST: data set 'lvis_v1_vall'.*lvis_v1_val"):
            LongTailTrainer(cfg)

    def test_missing_json(self, tmp_path):
        cfg = tiny_config(tmp_path, DATASETS__TEST=("lvis_v1_val",))
        with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
            LongTailTrainer(cfg)

    def test_without_evaluator(self, tmp_path):
        name = f"no_evaluator_{tmp_path.name}"
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).thing_classes = ["a"]
        cfg = tiny_config(tmp_path, DATASETS__TEST=(name,))
        with pytest.raises(ValueError, match=r"DATASETS.TEST.*evaluator_type None; there are"):
            LongTailTrainer(cfg)

    def test_of_other_classes(self, tmp_path):
        name = f"one_class_{tmp_path.name}"
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(thing_classes=["a"], evaluator_type="coco")
        cfg = tiny_config(tmp_path, DATASETS__TEST=(name,))
        with pytest.raises(ValueError, match="class 0 is 'a' here.*1 classes here, 6 there"):
            LongTailTrainer(cfg)

    def test_backend_that_is_not_installed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "hotcoco", None)
        with pytest.raises(ImportError, match=r"LT_DET.EVAL.BACKEND 'hotcoco'.*pip install"):
            LongTailTrainer(tiny_config(tmp_path))


def test_device_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = tiny_config(tmp_path, MODEL__DEVICE="cuda:1", MODEL__WEIGHTS="x.pth")
    for call in (LongTailTrainer, LongTailTrainer.evaluate_checkpoint):
        with pytest.raises(ValueError, match=r"MODEL.DEVICE is 'cuda:1'.*set MODEL.DEVICE cpu"):
            call(cfg)


def test_config_without_our_keys():
    with pytest.raises(ValueError, match=r"no LT_DET: call lt_det.config.add_lt_det_config\(cfg\)"):
        LongTailTrainer(get_cfg())


def test_whole_number_for_a_float_is_answered_with_the_float(tmp_path):
    key = "LT_DET.LOSS_PARAMS.BALANCED_SOFTMAX.TAU"
    with pytest.raises(ValueError, match=rf"{key}.*; write 1.0"):
        load_config("", [key, "1"])
    path = tmp_path / "config.yaml"
    path.write_text("LT_DET:\n  META:\n    LR: 2\n")
    with pytest.raises(ValueError, match=r"LT_DET.META.LR.*; write 2.0"):
        load_config(str(path))


def test_reference_world_size_scales_our_keys_as_well(tmp_path):
    keys = {
        "SOLVER__REFERENCE_WORLD_SIZE": 8,
        "SOLVER__IMS_PER_BATCH": 16,
        "LT_DET__META__IMS_PER_BATCH": 32,
        "LT_DET__DEFER__START_ITER": 100,
    }
    cfg = tiny_config(tmp_path, **keys)
    cfg.freeze()
    scaled = scale_to_world_size(cfg, 2)
    assert (scaled.SOLVER.IMS_PER_BATCH, scaled.LT_DET.META.IMS_PER_BATCH) == (4, 8)
    assert scaled.LT_DET.DEFER.START_ITER == 400
    assert scaled.is_frozen()
    assert cfg.LT_DET.META.IMS_PER_BATCH == 32
    assert scale_to_world_size(cfg, 8) is cfg
    assert LongTailTrainer.auto_scale_workers(cfg, 2) == scaled


def test_counted_classes_are_in_the_order_of_the_trained_ones(tmp_path):
    cfg = tiny_config(tmp_path)
    json_file, root = write_tiny_lvis(tmp_path)
    shuffled = tmp_path / "shuffled.json"
    text = (tmp_path / "tiny.json").read_text()
    swap = {'"class_0"': '"class_1"', '"class_1"': '"class_0"'}
    for old, new in swap.items():
        text = text.replace(old, new.upper())
    shuffled.write_text(text.replace('"CLASS_', '"class_'))
    name = f"shuffled_{tmp_path.name}"
    register_lvis_format(name, shuffled, root)
    cfg.LT_DET.CLASS_STATS.DATASETS = (name,)
    with pytest.raises(ValueError, match=r"same classes in the same order.*2 differ.*class_0"):
        build_class_stats(cfg)


@pytest.mark.parametrize("loss", ["sigmoid_ce", "softmax_ce"])
def test_stage_2_resumed_in_the_folder_of_stage_1(tmp_path, loss):
    cfg = tiny_config(tmp_path, DATASETS__TEST=(), SOLVER__MAX_ITER=1, LT_DET__LOSS="sigmoid_ce")
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    keys = {"LT_DET__DECOUPLED": True, "LT_DET__LOSS": loss}
    second = LongTailTrainer(tiny_config(tmp_path, DATASETS__TEST=(), **keys))
    with pytest.raises(ValueError, match="of another training.*needs an OUTPUT_DIR of its own"):
        second.resume_or_load(resume=True)


IMAGES = Path(__file__).resolve().parents[3] / "configs" / "classification"
TRANSFORM = "LT_DET.CLASSIFICATION.TRANSFORM."
LDAM = "ldam has margins for a cosine classifier, LT_DET.CLASSIFIER.NAME is 'linear'"


def check_images(config, *opts):
    check_config(load_config(str(IMAGES / f"{config}.yaml"), ["MODEL.DEVICE", "cpu", *opts]))


@pytest.mark.parametrize(
    ("config", "opts", "message"),
    [
        ("digits_lt_ce", ("LT_DET.RESET_CLASSIFIER", True), "RESET_CLASSIFIER .* set LT_DET.DEC"),
        ("digits_lt_ce", ("LT_DET.CLASSIFIER.NAME", "lws"), "'lws' scales .* set LT_DET.DECOUP"),
        ("cifar10_lt_lws", ("LT_DET.RESET_CLASSIFIER", True), "would make random .* set it False"),
        ("cifar10_lt_balms", ("LT_DET.SAMPLER.NAME", "square_root"), "LT_DET.SAMPLER.NAME 'squar"),
        ("cifar10_lt_balms", ("LT_DET.DEFER.SAMPLER", "instance"), "LT_DET.DEFER.SAMPLER 'insta"),
        (
            "cifar10_lt_balms",
            (TRANSFORM + "NAME", "none"),
            "NAME 'none' has no AUTO_AUGMENT and no CUTOUT: leave",
        ),
        ("digits_lt_ce", (TRANSFORM + "COLOR_JITTER", 0.4), "'pad_crop' has no COLOR_JITTER: lea"),
    ],
)
def test_contradicting_image_configs_are_refused(config, opts, message):
    check_images(config)
    with pytest.raises(ValueError, match=message):
        check_images(config, *opts)


def test_jitter_of_resized_crops_and_no_transform_are_fine():
    check_images("imagenet_lt_r10_ce", TRANSFORM + "COLOR_JITTER", 0.4)
    check_images("digits_lt_ce", TRANSFORM + "NAME", "none")


def test_ldam_wants_a_cosine_classifier(caplog):
    check_images("cifar10_lt_ldam_drw")
    assert not caplog.text
    check_images("cifar10_lt_ldam_drw", "LT_DET.CLASSIFIER.NAME", "linear")
    assert LDAM in caplog.text
