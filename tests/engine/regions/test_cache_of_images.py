"""The region cache of image classifiers: what its fingerprint must know."""

from __future__ import annotations

import pytest

from lt_det.engine.loading.build import build_train_stream
from lt_det.engine.regions.fingerprint import region_fingerprint
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from tests.engine.digits import digits_config

TRANSFORM = "LT_DET.CLASSIFICATION.TRANSFORM."
#: key of TRANSFORM -> another value
TRANSFORMS = {
    "NAME": "none",
    "SIZE": 7,
    "PADDING": 0,
    "FLIP": True,
    "COLOR_JITTER": 0.5,
    "AUTO_AUGMENT": "cifar10",
    "CUTOUT": 4,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    cfg = digits_config(tmp_path_factory.mktemp("model"), "LT_DET.DECOUPLED", True)
    return freeze_all_but_classifier(LongTailTrainer.build_model(cfg))


@pytest.fixture
def fingerprint(model, tmp_path):
    """Return a function of options: the fingerprint, always of the same weights."""

    def of(*options, records=None):
        cfg = digits_config(tmp_path, "LT_DET.DECOUPLED", True, *options)
        stream = build_train_stream(cfg)
        records = stream.records() if records is None else records
        return region_fingerprint(cfg, model, records, mapper=stream.mapper)

    return of


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((TRANSFORM + key, value) for key, value in TRANSFORMS.items()),
        ("LT_DET.CLASSIFICATION.FEATURE", "res4"),
        ("LT_DET.CIFAR_RESNET.STEM_STRIDE", 2),
        ("LT_DET.TIMM.OUT_INDICES", [3]),
        ("INPUT.FORMAT", "BGR"),
        ("LT_DET.REGION_CACHE.SEED", 1),
    ],
)
def test_fingerprint_knows_what_changes_features(fingerprint, key, value):
    # Only this transform has a jitter.
    base = (TRANSFORM + "NAME", "resized_crop") if key.endswith("COLOR_JITTER") else ()
    assert fingerprint(*base, key, value) != fingerprint(*base)


def test_fingerprint_ignores_what_concerns_the_second_stage_or_the_test(fingerprint):
    options = (TRANSFORM + "TEST_RESIZE", 9, "LT_DET.CLASSIFICATION.FEW_MAX", 5)
    options += ("LT_DET.TIMM.WEIGHTS", "elsewhere", "LT_DET.LOSS", "balanced_softmax")
    assert fingerprint(*options) == fingerprint()
    # What the centre crop of training takes, it knows.
    no_crop = (TRANSFORM + "NAME", "none")
    resized = fingerprint(*no_crop, TRANSFORM + "TEST_RESIZE", 9)
    assert resized != fingerprint(*no_crop)


def test_every_key_of_the_transform_is_tested(tmp_path):
    keys = set(digits_config(tmp_path).LT_DET.CLASSIFICATION.TRANSFORM)
    assert keys == {*TRANSFORMS, "TEST_RESIZE"}


def test_fingerprint_knows_the_pixels(fingerprint, tmp_path):
    records = [dict(r) for r in build_train_stream(digits_config(tmp_path)).records()]
    seen = [fingerprint(records=records), fingerprint()]
    assert seen[0] == seen[1]
    records[-1]["image"] = 255 - records[-1]["image"]
    seen.append(fingerprint(records=records))
    records[-1]["image"] = records[-1]["image"].reshape(4, 16, 3)
    seen.append(fingerprint(records=records))
    assert len(set(seen)) == 3
