"""Mappers that give other samples have other descriptions; the same ones the same."""

from __future__ import annotations

import functools
import logging
import os
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from torch import nn

from lt_det.config import add_lt_det_config
from lt_det.data.warn_once import warn_once
from lt_det.engine.regions.fingerprint import described, region_fingerprint
from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from tests.modeling.small_models import NUM_CLASSES, small_config, small_model

RECORDS = [{"image_id": 0, "annotations": [{"category_id": 0, "bbox": [0, 0, 1, 1]}]}]


@pytest.fixture(scope="module")
def cfg():
    cfg = get_cfg()
    add_lt_det_config(cfg)
    return cfg


def fingerprint(cfg, mapper=None, records=RECORDS, dtype=torch.float32):
    layer = nn.Linear(2, 2).requires_grad_(False).to(dtype)
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
    return region_fingerprint(cfg, layer, records, mapper=mapper)


def brightened(records, amount):
    return records, amount


class Stamped:
    def __init__(self, version):
        self.version, self.draws = version, np.random.RandomState(0)

    def __call__(self, record):
        return record

    def fingerprint(self):
        return f"v{self.version}"


class Pasting(DatasetMapper):
    pass


def adding(amount):
    return lambda record: (record, amount)


class Opaque:
    __slots__ = ()


#: functions of cfg: mappers, all different from each other
MAPPERS = {
    "none": lambda _: None,
    "detectron2": lambda cfg: DatasetMapper(cfg, True),
    "test": lambda cfg: DatasetMapper(cfg, False),
    "subclass": lambda cfg: Pasting(cfg, True),
    "resize": lambda cfg: DatasetMapper(cfg, True, augmentations=[T.Resize((64, 64))]),
    "other size": lambda cfg: DatasetMapper(cfg, True, augmentations=[T.Resize((64, 65))]),
    "rotation": lambda cfg: DatasetMapper(cfg, True, augmentations=[T.RandomRotation([90])]),
    "nested": lambda cfg: DatasetMapper(
        cfg, True, augmentations=[T.RandomApply(T.RandomRotation([90]), prob=0.3)]
    ),
    "BGR": lambda cfg: DatasetMapper(cfg, True, image_format="L"),
    "partial": lambda _: functools.partial(brightened, amount=1),
    "other partial": lambda _: functools.partial(brightened, amount=2),
    "of a partial": lambda _: functools.partial(brightened, amount=functools.partial(adding, 1)),
    "closure": lambda _: adding(1),
    "other closure": lambda _: adding(2),
    "lambda": lambda _: lambda record: record,
    "other lambda": lambda _: lambda record: (record, 1),
    "array": lambda _: functools.partial(brightened, amount=np.arange(3)),
    "other array": lambda _: functools.partial(brightened, amount=np.arange(3)[::-1]),
    "tensor": lambda _: functools.partial(brightened, amount=torch.tensor(3.0)),
    "stamped": lambda _: Stamped(1),
    "other stamp": lambda _: Stamped(2),
    "method": lambda _: Stamped(1).__call__,
}


def test_mappers_are_told_apart_and_known_again(cfg, caplog):
    prints = {name: fingerprint(cfg, make(cfg)) for name, make in MAPPERS.items()}
    assert len(set(prints.values())) == len(prints)
    assert prints == {name: fingerprint(cfg, make(cfg)) for name, make in MAPPERS.items()}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_mappers_without_a_state_are_warned_of(caplog):
    warn_once.cache_clear()
    mapper = functools.partial(brightened, amount=torch.Generator())
    with caplog.at_level(logging.WARNING):
        described(mapper)
        described(mapper)
    (record,) = caplog.records
    assert "fingerprint()" in record.message
    assert "Generator" in record.message


def test_objects_that_hold_themselves(cfg):
    one = Pasting(cfg, True)
    one.parent = one
    assert described(one) == described(one)


def test_crowds_and_half_precision(cfg):
    crowd = [{**RECORDS[0], "annotations": [{**RECORDS[0]["annotations"][0], "iscrowd": 1}]}]
    plain = [{**RECORDS[0], "annotations": [{**RECORDS[0]["annotations"][0], "iscrowd": 0}]}]
    assert fingerprint(cfg) == fingerprint(cfg, records=plain)
    prints = {fingerprint(cfg), fingerprint(cfg, records=crowd)}
    prints |= {fingerprint(cfg, dtype=d) for d in (torch.bfloat16, torch.float16)}
    assert len(prints) == 4


SOURCE = """
import functools

SIZE = 64
calls = 0


def brightened(record):
    return record + 1


class Base:
    def shifted(self, record):
        return record - 1


class Mapper(Base):
    factor = 2

    def __init__(self):
        self.steps = [Step]

    def __call__(self, record):
        global calls
        calls += 1
        return [self.scaled(brightened(record)), self.shifted(SIZE), Step()(record)]

    @staticmethod
    def scaled(record):
        return record * 3

    @property
    def angle(self):
        return 5

    @functools.lru_cache
    def cached(self):
        return 6


class Step:
    def __call__(self, record):
        return record // 7
"""


def edited(*replacement, name="mapper_of_a_user"):
    """Return a mapper of the source above, as it is after an edit of the file."""
    assert not replacement or replacement[0] in SOURCE
    module = types.ModuleType(name)
    exec(
        compile(SOURCE.replace(*replacement) if replacement else SOURCE, name, "exec"), vars(module)
    )
    return module.Mapper()


@pytest.mark.parametrize(
    "edit",
    [
        ("SIZE = 64", "SIZE = 65"),
        ("record + 1", "record + 10"),  # a function that __call__ uses
        ("record - 1", "record - 10"),  # an inherited method
        ("factor = 2", "factor = 20"),
        ("[self.scaled", "[0, self.scaled"),  # __call__ itself
        ("record * 3", "record * 30"),
        ("return 5", "return 50"),
        ("return 6", "return 60"),
        ("record // 7", "record // 70"),  # a class that __call__ uses
    ],
    ids="->".join,
)
def test_edited_mappers_do_not_get_the_features_of_before(cfg, edit):
    assert fingerprint(cfg, edited()) == fingerprint(cfg, edited())
    assert fingerprint(cfg, edited(*edit)) != fingerprint(cfg, edited())


def test_calling_or_moving_a_mapper_changes_nothing(cfg):
    mapper = edited()
    before = fingerprint(cfg, mapper)
    mapper(1)  # counts in a global of its module
    assert fingerprint(cfg, mapper) == before
    assert fingerprint(cfg, edited("def shifted", "\n\n\n    def shifted")) == before


def test_descriptions_are_those_of_another_process():
    """No address, no order of a set: else every run would compute its own cache."""
    script = (
        "from detectron2.config import get_cfg\n"
        "from detectron2.data import DatasetMapper\n"
        "from lt_det.engine.regions.fingerprint import described\n"
        "import random, sys\n"
        "sys.stdout.write(str(described([DatasetMapper(get_cfg(), True), random.random])))"
    )
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    output = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": other},
    ).stdout
    assert output == str(described([DatasetMapper(get_cfg(), True), random.random]))
    assert "0x" not in output
    assert "DatasetMapper.__call__" in output


def test_losses_and_classifiers_after_the_features_do_not_count(cfg):
    """Other counts, softmax or sigmoid, deferral and classifiers: the regions are the same."""

    def of(counts=None, **keys):
        detector = small_model(small_config(**keys), seed=1)
        for head in classification_heads(detector):
            for module in head.criterion.modules():
                if counts is not None and isinstance(module, Criterion):
                    module.bind(counts[: head.cls_score.out_features], 100)
        freeze_all_but_classifier(detector)
        return region_fingerprint(small_config(**keys), detector, RECORDS)

    plain = of()
    counts = torch.arange(NUM_CLASSES + 1, dtype=torch.float64) + 1
    balanced = "balanced_softmax"
    assert of(counts, LT_DET__LOSS=balanced) == plain
    assert of(counts + 1, LT_DET__LOSS=balanced) == plain
    assert of(counts, LT_DET__LOSS="balanced_sigmoid") == plain
    assert (
        of(
            counts,
            LT_DET__LOSS=balanced,
            LT_DET__DEFER__LOSS="softmax_ce",
            LT_DET__DEFER__START_ITER=3,
        )
        == plain
    )
    assert of(counts, LT_DET__CLASSIFIER__NAME="cosine") == plain
    # What comes before still does.
    detector = small_model(small_config(), seed=1)
    detector.backbone.requires_grad_(False)
    with torch.no_grad():
        next(detector.backbone.parameters()).add_(1)
    freeze_all_but_classifier(detector)
    assert region_fingerprint(small_config(), detector, RECORDS) != plain
