"""Test and meta sets of image classifiers: checked before training, with the training's classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from lt_det.data.annotations.datasets import class_names_of
from lt_det.data.images.datasets import register_image_dataset, share_images
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.evaluators import check_test_sets, prepare_evaluation
from lt_det.engine.meta.build import check_meta_sets
from lt_det.engine.trainer import LongTailTrainer
from lt_det.tasks import build_class_stats
from tests.engine.digits import digits_config
from tests.engine.test_image_classification import results_of, train

SHADES = {"bright": 220, "dark": 30, "medium": 120}
TREE = {
    "train": ("bright", "dark", "medium"),
    "without_dark": ("bright", "medium"),
    "stranger": ("bright", "dark", "purple"),
}


@pytest.fixture
def photos(tmp_path):
    """Return a function: config of grey images; tests on one of the splits of TREE."""
    names = []
    for split, classes in TREE.items():
        for name in classes:
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(6):
                shade = SHADES.get(name, 0) + i
                Image.new("RGB", (8, 8), (shade, shade, shade)).save(folder / f"{i}.png")

    def config(test, *options, root=None, prefix="a"):
        start = f"{Path(tmp_path).name}_{prefix}"
        entries = [
            [f"{start}_{split}", "folder", str(root or tmp_path / "photos"), split]
            for split in (*TREE, "missing")
        ]
        names.extend(name for name, *_ in entries)
        return digits_config(
            tmp_path,
            *("LT_DET.CLASSIFICATION.DATASETS", entries),
            *("LT_DET.CLASSIFICATION.IMBALANCE_FACTOR", 1.0),
            *("DATASETS.TRAIN", (f"{start}_train",), "DATASETS.TEST", (f"{start}_{test}",)),
            *("LT_DET.CLASSIFICATION.TRANSFORM.NAME", "none"),
            *("SOLVER.IMS_PER_BATCH", 6, "SOLVER.MAX_ITER", 25, "SOLVER.WARMUP_ITERS", 2),
            *options,
        )

    yield config
    for name in set(names):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_a_test_folder_may_lack_a_class_and_the_training_images(photos, tmp_path):
    cfg = photos("without_dark")
    train(cfg)
    assert results_of(cfg)["top1"] == 100  # with the folder's own ids half of it were wrong
    rows = json.loads(
        (tmp_path / "out" / "inference" / "per_category_classification.json").read_text()
    )
    images = {row["name"]: row["num_test_images"] for row in rows["categories"]}
    assert images == {"bright": 6, "dark": 0, "medium": 6}
    # From the checkpoint alone: what the training set was is in it.
    (tmp_path / "photos" / "train").rename(tmp_path / "photos" / "gone")
    cfg = photos("without_dark", prefix="b")
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    found = LongTailTrainer.evaluate_checkpoint(cfg)["classification"]
    assert found["top1"] == 100
    assert cfg.LT_DET.CLASSIFICATION.NUM_CLASSES == 0  # the caller's is left alone
    cfg.LT_DET.CLASSIFICATION.NUM_CLASSES = 5
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 5, but .* was trained on 3 classes"):
        prepare_evaluation(cfg, resume=False)


@pytest.mark.parametrize(
    ("test", "options", "error", "words"),
    [
        ("missing", (), FileNotFoundError, "_missing.*there is no folder"),
        ("stranger", (), ValueError, r"DATASETS.TEST: .*1 classes .* first \['purple'\]"),
        ("train", ("LT_DET.EVAL.CONFIDENCE", 95.0), ValueError, "CONFIDENCE .* got 95"),
        (
            "train",
            ("LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH", 0),
            ValueError,
            "TEST_IMS_PER_BATCH must be at least 1, got 0",
        ),
    ],
)
def test_what_evaluation_would_refuse_is_found_before_training(photos, test, options, error, words):
    with pytest.raises(error, match=words):
        LongTailTrainer(photos(test, *options))


def test_lists_of_fewer_labels(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    names = {}
    for name, labels in (("train", "0123"), ("val", "02")):
        (tmp_path / f"{name}.txt").write_text("".join(f"x.png {label}\n" for label in labels))
        names[name] = f"{tmp_path.name}_{name}"
        path = str(tmp_path / f"{name}.txt")
        register_image_dataset(names[name], "list", path, str(tmp_path))
    cfg = digits_config(
        tmp_path,
        *("LT_DET.CLASSIFICATION.DATASETS", []),
        *("DATASETS.TRAIN", (names["train"],), "DATASETS.TEST", (names["val"],)),
    )
    check_test_sets(cfg)
    assert class_names_of(names["val"]) == ["0", "1", "2", "3"]
    assert [r["category_id"] for r in DatasetCatalog.get(names["val"])] == [0, 2]


def test_held_out_images_without_the_key(tmp_path):
    cfg = digits_config(tmp_path, "DATASETS.TEST", ("digits_lt_train_held_out",))
    with pytest.raises(
        KeyError, match="HELD_OUT, such as 0.1, .*'digits_lt_train' .* now it is 0.0"
    ):
        check_test_sets(cfg)
    cfg.DATASETS.TEST = ("digits_tst",)
    with pytest.raises(KeyError) as raised:
        check_test_sets(cfg)
    assert "HELD_OUT" not in str(raised.value)


def meta_config(folder, *options, sets):
    keys = ("LT_DET.META.ENABLED", True, "LT_DET.META.SCOPE", "network")
    return digits_config(folder, *keys, "LT_DET.META.DATASETS", sets, *options)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("digits_test",), "has the images of DATASETS.TEST 'digits_test'"),
        (("digits_test_again",), "has the images of DATASETS.TEST 'digits_test'"),
        (("digits_train_whole",), "all images of which DATASETS.TRAIN 'digits_lt_train' is"),
        (("nowhere",), "LT_DET.META.DATASETS: data set 'nowhere' is not registered"),
    ],
)
def test_meta_sets_are_no_test_sets(tmp_path, sets, words):
    register_image_dataset("digits_test_again", "digits", "elsewhere", "test")
    register_image_dataset("digits_train_whole", "digits", "", "train")
    with pytest.raises((ValueError, KeyError), match=words):
        LongTailTrainer(meta_config(tmp_path, sets=sets))


def test_meta_sets_get_the_classes_of_training(tmp_path, photos):
    cfg = photos("train")
    stats = build_class_stats(cfg)
    cfg.DATASETS.TEST = ()
    cfg.LT_DET.META.DATASETS = (cfg.DATASETS.TRAIN[0].replace("_train", "_without_dark"),)
    check_meta_sets(cfg, stats)
    labels = {r["category_id"] for r in DatasetCatalog.get(cfg.LT_DET.META.DATASETS[0])}
    assert labels == {0, 2}
    cfg.LT_DET.META.DATASETS = (cfg.DATASETS.TRAIN[0].replace("_train", "_stranger"),)
    with pytest.raises(ValueError, match=r"META.DATASETS: .* first \['purple'\]"):
        check_meta_sets(cfg, stats)
    other = ClassStats("x", ("a", "b"), (1, 1), (1, 1), 2, "annotations")
    cfg.LT_DET.META.DATASETS = cfg.DATASETS.TRAIN
    with pytest.raises(ValueError, match="META.DATASETS"):
        check_meta_sets(cfg, other)


def test_held_out_images_are_not_the_rest():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    register_image_dataset("digits_rest", "digits", "", "train", held_out=0.2)
    assert not share_images("digits_rest", "digits_rest_held_out")
    register_image_dataset("digits_whole", "digits", "", "train")
    assert share_images("digits_whole", "digits_rest_held_out")
    assert share_images("digits_whole", "digits_whole")
    assert not share_images("digits_whole", "nothing_of_ours")
    ids = [
        {r["image_id"] for r in DatasetCatalog.get(name)}
        for name in ("digits_rest", "digits_rest_held_out")
    ]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("csv", "a.csv", ""), ("csv", "a.csv", "test"), True),
        (("csv", "a.csv", "train"), ("csv", "a.csv", "test"), False),
        (("folder", "a", "val"), ("folder", "a/val", ""), True),
        (("folder", "a", "train"), ("folder", "a", "val"), False),
        (("list", "a.txt", "x"), ("list", "a.txt", "y"), True),
        (("list", "a.txt", "x"), ("list", "b.txt", "x"), False),
        (("cifar10", "", "test"), ("cifar10", "cifar-10-batches-py", "test"), True),
        (("cifar10", "", "train"), ("cifar100", "", "train"), False),
        (("npz", "a.npz", "train"), ("npz", "a.npz", "test"), False),
    ],
)
def test_which_sets_share_images(first, second, same):
    names = ["share_images_a", "share_images_b"]
    for name, source in zip(names, (first, second)):
        register_image_dataset(name, *source)
    try:
        assert share_images(*names) == share_images(*names[::-1]) == same
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
