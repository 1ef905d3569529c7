"""Config keys in the errors of functions that know arguments only."""

from __future__ import annotations

import pytest

from lt_det.config_errors import naming_keys


def test_arguments_become_keys():
    with (
        pytest.raises(ValueError, match=r"^LT_DET.A.BETA must be below 1, got beta=2$"),
        naming_keys(beta="LT_DET.A.BETA", other="LT_DET.A.OTHER"),
    ):
        raise ValueError("beta must be below 1, got beta=2")
    with pytest.raises(ImportError, match=r"^LT_DET.B 'x' needs y$"), naming_keys(name="LT_DET.B"):
        raise ImportError("name 'x' needs y")


def test_other_errors_stay_as_they_are():
    error = ValueError("alphabeta must be beta.gamma")
    with pytest.raises(ValueError, match="alphabeta") as caught, naming_keys(beta="LT_DET.A.BETA"):
        raise error
    assert caught.value is error
    with pytest.raises(RuntimeError, match="^beta$"), naming_keys(beta="LT_DET.A.BETA"):
        raise RuntimeError("beta")


CLASSIFICATION = "LT_DET.CLASSIFICATION."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("LT_DET.DATASETS", "[['a']]"), r"LT_DET\.DATASETS\[0\] must be \[name, json_file"),
        (
            (CLASSIFICATION + "DATASETS", "[['a']]"),
            r"LT_DET\.CLASSIFICATION\.DATASETS\[0\] must be \[name, kind",
        ),
        (
            (
                CLASSIFICATION + "SUBSET_SEED",
                "-1",
                CLASSIFICATION + "DATASETS",
                "[['d', 'digits', '']]",
            ),
            r"LT_DET\.CLASSIFICATION\.SUBSET_SEED must be at least 0, got -1",
        ),
        (
            (
                *(CLASSIFICATION + "HELD_OUT", "1.0", "DATASETS.TRAIN", "('e',)"),
                *(CLASSIFICATION + "DATASETS", "[['e', 'digits', '']]"),
            ),
            r"LT_DET\.CLASSIFICATION\.HELD_OUT must be in \[0, 1\)",
        ),
    ],
)
def test_data_sets_of_a_config(options, message):
    pytest.importorskip("detectron2")
    from lt_det.engine.startup.setup import load_config

    with pytest.raises(ValueError, match=message):
        load_config("", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("LT_DET.LOSS", "softmax_c"), "no LT_DET.LOSS is called 'softmax_c'"),
        (("LT_DET.CLASS_WEIGHTS.NAME", "sqrt"), "LT_DET.CLASS_WEIGHTS.NAME must be"),
        (
            (
                *("LT_DET.CLASS_WEIGHTS.NAME", "effective_number"),
                *("LT_DET.CLASS_WEIGHTS.DENOMINATOR", "images"),
            ),
            "LT_DET.CLASS_WEIGHTS.DENOMINATOR must be 'rows' or 'weights', got 'images'",
        ),
        (
            ("LT_DET.CLASS_WEIGHTS.NAME", "given"),
            "^LT_DET.CLASS_WEIGHTS.VALUES must be given with LT_DET.CLASS_WEIGHTS.NAME 'given'",
        ),
        (
            ("LT_DET.CLASS_WEIGHTS.VALUES", "[1.0]"),
            r"LT_DET.CLASS_WEIGHTS.VALUES \[1.0\] would do nothing",
        ),
        (
            ("LT_DET.CLASS_WEIGHTS.NAME", "given", "LT_DET.CLASS_WEIGHTS.VALUES", "[1, 2.5]"),
            "^LT_DET.CLASS_WEIGHTS.VALUES must have one number for each of the 80 classes, .* 2$",
        ),
        (
            ("LT_DET.DEFER.START_ITER", "5", "LT_DET.DEFER.LOSS", "focal"),
            "LT_DET.DEFER.LOSS and LT_DET.LOSS must be of one kind",
        ),
        (
            ("LT_DET.LOSS", "ldam", "LT_DET.LOSS_PARAMS.LDAM.SCALE", "-1.0"),
            "^LT_DET.LOSS_PARAMS.LDAM.SCALE must be at least 0, got -1.0$",
        ),
        (
            ("LT_DET.LOSS", "eqlv2", "LT_DET.LOSS_PARAMS.EQLV2.MU", "1e999"),
            "^LT_DET.LOSS_PARAMS.EQLV2.MU must be a finite number, got inf$",
        ),
    ],
)
def test_losses_of_a_config(options, message):
    pytest.importorskip("detectron2")
    from lt_det.engine.startup.setup import load_config
    from lt_det.modeling.build import build_criterion

    with pytest.raises((ValueError, KeyError), match=message):
        build_criterion(load_config("", options))


@pytest.mark.parametrize(
    ("key", "value"),
    [("LR", 0.0), ("BETAS", (0.9, 1.0)), ("INNER_STEP", "adam"), ("ESTIMATOR", "other")],
)
def test_meta_learners_of_a_config(key, value):
    pytest.importorskip("detectron2")
    from lt_det.data.stats.class_stats import ClassStats
    from lt_det.engine.meta.build import build_meta_learner
    from lt_det.engine.startup.setup import load_config

    cfg = load_config("", ("LT_DET.META.METHOD", "sampler", "MODEL.DEVICE", "cpu"))
    cfg.LT_DET.META[key] = value
    stats = ClassStats("x", ("a", "b"), (3, 2), (3, 2), 5, "annotations")
    with pytest.raises(ValueError, match=rf"^LT_DET\.META\.{key} must be"):
        build_meta_learner(cfg, stats)


def test_augmentations_of_a_config():
    pytest.importorskip("detectron2")
    from lt_det.engine.startup.setup import load_config
    from lt_det.tasks.image_mapper import build_image_mapper

    cfg = load_config(
        "", (CLASSIFICATION + "TRANSFORM.AUTO_AUGMENT", "cifar", "INPUT.FORMAT", "RGB")
    )
    with pytest.raises(
        ValueError, match=r"^LT_DET\.CLASSIFICATION\.TRANSFORM\.AUTO_AUGMENT must be"
    ):
        build_image_mapper(cfg, is_train=True)
