"""Mappers that give other samples have other descriptions; the same ones the same."""

from __future__ import annotations

import functools
import logging

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
    assert not caplog.records


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
