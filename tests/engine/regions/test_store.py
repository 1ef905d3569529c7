"""Shards hold what was written, or say that they do not."""

from __future__ import annotations

import os
import re

import pytest
import torch

from lt_det.engine.regions import store as region_store
from lt_det.engine.regions.store import RegionShard, RegionStore, write_shard


def records_of(sizes=(300, 0, 40, 1), dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            (
                torch.randn(n, dim, generator=generator),
                torch.randint(0, 9, (n,), generator=generator),
            )
            for _stage in range(2)
        ]
        for n in sizes
    ]


@pytest.fixture
def shard(tmp_path):
    path = str(tmp_path / "shard")
    write_shard(path, records_of(), dtype=torch.float32)
    return path


def test_records_come_back(shard):
    store = RegionStore([RegionShard(shard)])
    for _twice in range(2):
        for record, wanted in zip(store, records_of()):
            for (features, labels), (f, y) in zip(record, wanted):
                assert torch.equal(features, f)
                assert torch.equal(labels, y)
                assert labels.dtype == torch.int64
    wanted = [sorted(set(r[0][1].tolist()) - {8}) for r in records_of()]
    assert store.classes_of_images(num_classes=8) == wanted


def test_every_zeroed_block_is_noticed(shard):
    with open(shard, "rb") as file:
        content = file.read()
    for start in range(0, len(content), 4096):
        block = content[start : start + 4096]
        with open(shard, "wb") as file:
            file.write(content[:start] + bytes(len(block)) + content[start + len(block) :])
        with pytest.raises((ValueError, RuntimeError), match=shard):
            list(RegionStore([RegionShard(shard)]))


def test_one_changed_byte_concerns_one_image(shard):
    features = records_of()[2][1][0].numpy().tobytes()
    with open(shard, "rb") as file:
        content = file.read()
    assert content.count(features) == 1
    place = content.index(features) + 5
    with open(shard, "wb") as file:
        file.write(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    opened = RegionShard(shard)
    for image in (0, 1, 3):
        opened[image]
    for _twice in range(2):
        with pytest.raises(RuntimeError, match="Delete it and start again"):
            opened[2]


def test_checksums_are_computed_once(shard, monkeypatch):
    opened = RegionShard(shard)
    first = opened[0]
    monkeypatch.setattr(region_store, "_checksum", None)
    assert torch.equal(opened[0][1][0], first[1][0])
    with pytest.raises(TypeError):
        opened[2]


def test_nothing_of_the_file_is_held_in_memory(shard):
    state = vars(RegionShard(shard)).values()
    nested = [item for value in state if isinstance(value, list) for item in value]
    assert not any(isinstance(value, torch.Tensor) for value in [*state, *nested])


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (7e4, torch.float16, "7e+04 do not fit into float16"),
        (float("nan"), torch.float32, "not finite"),
        (float("-inf"), torch.float16, "not finite"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, value, dtype, words):
    records = records_of()
    records[2][1][0][3, 1] = value
    with pytest.raises(ValueError, match=re.escape(words)):
        write_shard(str(tmp_path / "shard"), records, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("sync") or sync(fd))
    monkeypatch.setattr(os, "replace", lambda *a: calls.append("name") or replace(*a))
    write_shard(str(tmp_path / "shard"), records_of(), dtype=torch.float32)
    assert calls == ["sync", "name"]
