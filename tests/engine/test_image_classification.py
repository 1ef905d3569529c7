"""Whole trainings of image classifiers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from lt_det.data.images.datasets import register_image_dataset
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.loading.build import build_meta_stream, build_test_loader, build_train_stream
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.build import build_criterion
from lt_det.tasks.image_mapper import build_image_mapper
from lt_det.tasks.train_samplers import build_train_sampler
from tests.engine.digits import digits_config


def train(cfg, *, stop=None, resume=False):
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.max_iter = stop or trainer.max_iter
    trainer.train()
    return trainer


def results_of(cfg):
    with open(f"{cfg.OUTPUT_DIR}/results.json", encoding="utf-8") as file:
        return json.load(file)["results"]["classification"]


def test_balanced_softmax_helps_the_few(tmp_path):
    short = ("SOLVER.MAX_ITER", 120)
    plain = digits_config(tmp_path / "ce", *short, "LT_DET.EVAL.PICTURES", True)
    balanced = digits_config(tmp_path / "bs", *short, "LT_DET.LOSS", "balanced_softmax")
    train(plain)
    train(balanced)
    ce, bs = results_of(plain), results_of(balanced)
    assert ce["many"] > 95 > ce["top1"] > 50
    assert bs["few"] > ce["few"] + 15
    assert bs["top1"] > ce["top1"] + 5
    assert ce["natural"] > ce["top1"]
    assert (Path(plain.OUTPUT_DIR) / "inference" / "likelihood.png").is_file()
    # What was trained is what is evaluated from the checkpoint.
    again = digits_config(
        tmp_path / "again", "MODEL.WEIGHTS", f"{balanced.OUTPUT_DIR}/model_final.pth"
    )
    found = LongTailTrainer.evaluate_checkpoint(again)["classification"]
    assert found["few"] == pytest.approx(bs["few"])
    assert found["natural"] == pytest.approx(bs["natural"])
    # The training set too, in the same picture; its own images are the likelier ones.
    options = ["DATASETS.TEST", ("digits_lt_train", "digits_test")]
    options += ["MODEL.WEIGHTS", again.MODEL.WEIGHTS, "LT_DET.EVAL.PICTURES", True]
    both = digits_config(tmp_path / "both", *options)
    results = LongTailTrainer.evaluate_checkpoint(both)
    assert results["digits_test"]["classification"]["few"] == pytest.approx(bs["few"])
    folder = Path(both.OUTPUT_DIR) / "inference"
    train_set, test_set = (
        json.loads((folder / name / "likelihood.json").read_text()) for name in both.DATASETS.TEST
    )
    assert train_set["num_images"]["all"] == len(build_train_dicts(both))
    bins = torch.arange(20.0)
    mean_bin = [
        float(torch.tensor(found["share_of_images"]["few"]) @ bins)
        for found in (train_set, test_set)
    ]
    assert mean_bin[0] > mean_bin[1]
    assert (folder / "likelihood.png").is_file()


@pytest.mark.parametrize(
    "options",
    [
        ("LT_DET.SAMPLER.NAME", "progressive"),
        ("LT_DET.DEFER.SAMPLER", "class_balanced", "LT_DET.DEFER.START_ITER", 3),
        ("LT_DET.DEFER.SAMPLER", "progressive", "LT_DET.DEFER.START_ITER", 5),
        ("LT_DET.CLASSIFICATION.TRANSFORM.CUTOUT", 3, "DATALOADER.NUM_WORKERS", 1),
        ("LT_DET.CLASSIFICATION.TRANSFORM.AUTO_AUGMENT", "rand-m9-mstd0.5"),
    ],
    ids=[
        "progressive",
        "resampled before",
        "resampled after",
        "cutout in a worker",
        "policy of timm",
    ],
)
def test_a_resumed_run_repeats_an_uninterrupted_one(tmp_path, options):
    options = ("SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 1, *options)
    whole = train(digits_config(tmp_path / "whole", *options))
    parts = digits_config(tmp_path / "parts", *options)
    train(parts, stop=4)
    second = train(parts, resume=True)
    assert second.start_iter == 4
    states = (whole._detector.state_dict(), second._detector.state_dict())
    for (name, a), b in zip(states[0].items(), states[1].values()):
        assert torch.equal(a, b), name


def first_batches(stream, count):
    batches = iter(stream)
    return [next(batches) for _ in range(count)]


def test_batches_follow_the_seed_and_the_position(tmp_path):
    cfg = digits_config(tmp_path)
    whole = first_batches(build_train_stream(cfg), 4)
    late = build_train_stream(cfg)
    late.start_at(2)
    for a, b in zip(whole[2:], first_batches(late, 2)):
        assert [x["image_id"] for x in a] == [x["image_id"] for x in b]
        assert torch.equal(
            torch.stack([x["image"] for x in a]), torch.stack([x["image"] for x in b])
        )
    other = first_batches(build_train_stream(digits_config(tmp_path, "SEED", 9)), 1)
    assert [x["image_id"] for x in other[0]] != [x["image_id"] for x in whole[0]]


def test_meta_batches_are_balanced_and_of_the_training_subset(tmp_path):
    cfg = digits_config(tmp_path)
    dicts = build_train_dicts(cfg)
    batches = first_batches(build_meta_stream(cfg, build_train_stream(cfg), ims_per_batch=100), 10)
    labels = torch.tensor([x["category_id"] for batch in batches for x in batch])
    assert torch.bincount(labels, minlength=10).min() > 65  # 100 each +- 9.5
    ids = {x["image_id"] for batch in batches for x in batch}
    assert ids <= {record["image_id"] for record in dicts}


def test_test_images_are_seen_once_and_unchanged(tmp_path):
    cfg = digits_config(tmp_path, "LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH", 100)
    loader = build_test_loader(cfg, "digits_test")
    samples = [sample for batch in loader for sample in batch]
    assert len(loader) == 6
    assert sorted(x["image_id"] for x in samples) == list(range(596))
    again = [sample for batch in build_test_loader(cfg, "digits_test") for sample in batch]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(samples, again))


def test_files_of_several_sizes(tmp_path):
    for split, number in (("train", 4), ("val", 2)):
        for label, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
            folder = tmp_path / "photos" / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (20 + i, 30), colour).save(folder / f"{i}.jpg")
    name = f"photos_{Path(tmp_path).name}"
    entries = [
        [f"{name}_{split}", "folder", str(tmp_path / "photos"), split] for split in ("train", "val")
    ]
    cfg = digits_config(
        tmp_path,
        *("LT_DET.CLASSIFICATION.DATASETS", entries),
        *("LT_DET.CLASSIFICATION.IMBALANCE_FACTOR", 1.0),
        *("DATASETS.TRAIN", (f"{name}_train",), "DATASETS.TEST", (f"{name}_val",)),
        *("LT_DET.CLASSIFICATION.TRANSFORM.NAME", "resized_crop"),
        *("LT_DET.CLASSIFICATION.TRANSFORM.SIZE", 16),
        *("LT_DET.CLASSIFICATION.TRANSFORM.TEST_RESIZE", 18),
        *("LT_DET.CLASSIFICATION.TRANSFORM.COLOR_JITTER", 0.1),
        *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 15, "SOLVER.WARMUP_ITERS", 2),
    )
    trainer = train(cfg)
    assert trainer._detector.cls_score.out_features == 2
    found = results_of(cfg)
    assert found["top1"] == 100
    assert found["many"] is None  # no class has more than 100 images


def test_number_of_classes_is_checked(tmp_path):
    cfg = digits_config(tmp_path, "LT_DET.CLASSIFICATION.NUM_CLASSES", 7)
    with pytest.raises(ValueError, match="NUM_CLASSES is 7, but data set .* has 10 classes"):
        LongTailTrainer(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LT_DET.CLASSIFICATION.TRANSFORM.NAME", "crop", "TRANSFORM.NAME must be one of"),
        ("INPUT.FORMAT", "L", "INPUT.FORMAT must be RGB or BGR"),
    ],
)
def test_transforms_that_do_not_exist(tmp_path, key, value, message):
    with pytest.raises(ValueError, match=message):
        build_image_mapper(digits_config(tmp_path, key, value), is_train=True)


def test_evaluator_is_chosen_by_the_data_set():
    register_image_dataset("digits_for_evaluator", "digits", "", "test")
    assert MetadataCatalog.get("digits_for_evaluator").evaluator_type == "classification"


def test_deferred_resampling_counts_epochs_as_the_deferred_loss_does(tmp_path):
    keys = ("LT_DET.DEFER.SAMPLER", "class_balanced", "LT_DET.DEFER.START_EPOCH", 1.5)
    cfg = digits_config(tmp_path, *keys, "LT_DET.CLASS_WEIGHTS.NAME", "effective_number")
    dicts = build_train_dicts(cfg)
    start = build_criterion(cfg).start_iteration
    assert start == math.ceil(1.5 * len(dicts) / 32)
    assert build_train_sampler(cfg, dicts, seed=0).num_before == start * 32
