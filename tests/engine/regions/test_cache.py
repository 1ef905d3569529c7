"""The region cache is used where it fits, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm

from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.regions import cache as region_cache
from lt_det.engine.regions import store as region_store
from lt_det.engine.regions.cache import build_region_cache, split_by_image
from lt_det.engine.regions.fingerprint import region_fingerprint
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import small_model


@pytest.fixture
def setting(tmp_path):
    cfg = tiny_config(tmp_path, LT_DET__LOSS="sigmoid_ce")
    model = freeze_all_but_classifier(small_model(cfg)).train()
    return cfg, model, build_train_dicts(cfg)


def changed(cfg, **keys):
    cfg = cfg.clone()
    cfg.merge_from_list([part for k, v in keys.items() for part in (k.replace("__", "."), v)])
    return cfg


def test_fingerprint_ignores_what_is_trained(setting):
    cfg, model, dicts = setting
    before = region_fingerprint(cfg, model, dicts)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight += 1
    moved = changed(cfg, MODEL__WEIGHTS="other.pth", LT_DET__LOSS="balanced_sigmoid")
    moved.OUTPUT_DIR, moved.SOLVER.BASE_LR = "elsewhere", 0.3
    assert region_fingerprint(moved, model, dicts) == before


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL__ROI_BOX_HEAD__POOLER_SAMPLING_RATIO": 2},
        {"MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIAlign"},
        {"MODEL__ROI_BOX_CASCADE_HEAD__IOUS": (0.4, 0.5, 0.6)},
        {"MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 8},
        {"MODEL__ROI_HEADS__PROPOSAL_APPEND_GT": False},
        {"MODEL__RPN__POST_NMS_TOPK_TRAIN": 32},
        {"INPUT__FORMAT": "RGB"},
        {"LT_DET__REGION_CACHE__SEED": 6},
        {"LT_DET__REGION_CACHE__DTYPE": "float16"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_fingerprint_knows_what_regions_depend_on(setting, keys):
    cfg, model, dicts = setting
    other = region_fingerprint(changed(cfg, **keys), model, dicts)
    assert other != region_fingerprint(cfg, model, dicts)


def test_fingerprint_knows_the_image_files(setting, tmp_path):
    cfg, model, dicts = setting
    seen = [region_fingerprint(cfg, model, dicts)]
    path = Path(dicts[0]["file_name"])
    content = path.read_bytes()
    assert region_fingerprint(cfg, model, dicts) == seen[0]
    os.utime(path, (1, 1))  # replaced by a file of the same size
    seen.append(region_fingerprint(cfg, model, dicts))
    path.write_bytes(content + b"0")
    os.utime(path, (1, 1))
    seen.append(region_fingerprint(cfg, model, dicts))
    path.unlink()
    seen.append(region_fingerprint(cfg, model, dicts))
    records = [dict(record) for record in dicts]
    records[0]["file_name"] = str(tmp_path / "not_there.png")
    seen.append(region_fingerprint(cfg, model, records))
    assert len(set(seen)) == len(seen)


def test_writers_of_one_shard_on_two_machines_do_not_meet(setting, monkeypatch, tmp_path):
    cfg, model, dicts = setting
    records = list(build_region_cache(cfg, model, dicts))
    partial = []

    def watched(tensors, path, **options):
        partial.append(path)
        if len(partial) == 1:  # the other machine writes meanwhile, with the same process id
            region_store.write_shard(str(tmp_path / "shard"), records, dtype=torch.float32)
        save_file(tensors, path, **options)

    save_file = region_store.save_file
    monkeypatch.setattr(region_store, "save_file", watched)
    region_store.write_shard(str(tmp_path / "shard"), records, dtype=torch.float32)
    assert len(set(partial)) == 2
    assert len(region_store.RegionShard(str(tmp_path / "shard"))) == len(records)
    assert not list(tmp_path.glob("*.partial"))


def test_fingerprint_knows_frozen_weights_and_images(setting):
    cfg, model, dicts = setting
    dicts = list(dicts)  # records of a store are made anew each time
    prints = {region_fingerprint(cfg, model, dicts), region_fingerprint(cfg, model, dicts[1:])}
    dicts[0]["annotations"][0]["category_id"] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    with torch.no_grad():
        next(model.backbone.parameters()).view(-1)[0] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    next(b for n, b in model.named_buffers() if n.endswith("running_mean"))[0] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    assert len(prints) == 5


def files(tmp_path):
    return sorted(p.name for p in tmp_path.glob("regions_*/*.safetensors"))


def test_shards_are_read_not_computed_again(setting, monkeypatch, tmp_path):
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 3)
    records = build_region_cache(cfg, model, dicts)
    assert len(records) == len(dicts) == 8
    names = [f"epoch0_{start:07d}.safetensors" for start in (0, 3, 6)]
    assert files(tmp_path) == names
    monkeypatch.setattr(region_cache, "frozen_regions", None)
    again = build_region_cache(cfg, model, dicts)
    for one, two in zip(records, again):
        for (f1, y1), (f2, y2) in zip(one, two):
            assert torch.equal(f1, f2)
            assert torch.equal(y1, y2)


def test_records_are_those_of_the_detector(setting, monkeypatch):
    """In the order of the images, and what the classifier of the detector sees."""
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 3)
    seen = []
    frozen_regions = region_cache.frozen_regions

    def watch(detector, batch):
        stages = frozen_regions(detector, batch)
        seen.extend((s["file_name"], *r[0]) for s, r in zip(batch, split_by_image(stages)))
        return stages

    monkeypatch.setattr(region_cache, "frozen_regions", watch)
    records = build_region_cache(cfg, model, dicts)
    assert [name for name, *_ in seen] == [d["file_name"] for d in dicts]
    for record, (_, features, labels) in zip(records, seen):
        assert torch.equal(record[0][0], features)
        assert torch.equal(record[0][1], labels)
        assert record[0][0].dtype == torch.float32
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    assert records.classes_of_images(num_classes=num_classes) == [
        sorted(set(labels.tolist()) - {num_classes}) for _, _, labels in seen
    ]


def test_interrupted_cache_goes_on_where_it_stopped(setting, monkeypatch, tmp_path):
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 2)
    whole = [r[0][0].clone() for r in build_region_cache(cfg, model, dicts)]
    (folder,) = tmp_path.glob("regions_*")
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-100])
    untouched = {p: p.stat().st_mtime_ns for p in (shards[0], shards[3])}
    again = build_region_cache(cfg, model, dicts)
    assert all(torch.equal(a[0][0], b) for a, b in zip(again, whole))
    assert len(again) == 8
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched


def test_more_epochs_add_to_fewer(setting, tmp_path):
    cfg, model, dicts = setting
    one = [r[0][0].clone() for r in build_region_cache(cfg, model, dicts)]
    (first,) = tmp_path.glob("regions_*/*.safetensors")
    written = first.stat().st_mtime_ns
    two = build_region_cache(changed(cfg, LT_DET__REGION_CACHE__EPOCHS=2), model, dicts)
    assert len(two) == 2 * len(dicts)
    assert first.stat().st_mtime_ns == written
    assert all(torch.equal(a[0][0], b) for a, b in zip(two, one))
    # Another augmentation, another choice of regions: not the first epoch again.
    assert not all(
        a[0][0].shape == b.shape and torch.equal(a[0][0], b)
        for a, b in zip([two[8 + i] for i in range(8)], one)
    )


def test_float16_is_half_the_size_and_close(setting, tmp_path):
    cfg, model, dicts = setting
    exact = build_region_cache(cfg, model, dicts)
    (large,) = tmp_path.glob("regions_*/*.safetensors")
    half = build_region_cache(changed(cfg, LT_DET__REGION_CACHE__DTYPE="float16"), model, dicts)
    (small,) = (p for p in tmp_path.glob("regions_*/*.safetensors") if p != large)
    assert small.stat().st_size < 0.6 * large.stat().st_size
    torch.testing.assert_close(half[3][0][0], exact[3][0][0], rtol=1e-3, atol=1e-3)
    assert half[3][0][0].dtype == torch.float32


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"LT_DET__REGION_CACHE__MAX_GIB": 1e-6}, ["MAX_GIB", "DTYPE", "EPOCHS", "8 images"]),
        ({"LT_DET__REGION_CACHE__DTYPE": "int8"}, ["DTYPE", "float16", "'int8'"]),
    ],
)
def test_refused_caches_say_what_to_set(setting, monkeypatch, tmp_path, keys, words):
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 2)
    with pytest.raises(ValueError, match=words[0]) as error:
        build_region_cache(changed(cfg, **keys), model, dicts)
    assert all(word in str(error.value) for word in words)
    assert not files(tmp_path)


def test_ranks_share_the_work_and_a_disk_each_is_filled(setting, monkeypatch, tmp_path):
    """As rank 1 of 2 whose partner writes elsewhere: its share, then what is still missing."""
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 2)
    expected = [r[0][0].clone() for r in build_region_cache(cfg, model, dicts)]
    for path in tmp_path.glob("regions_*/*.safetensors"):
        path.unlink()
    order = []
    write = region_cache.write_shard
    monkeypatch.setattr(
        region_cache, "write_shard", lambda p, *a, **k: order.append(p) or write(p, *a, **k)
    )
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    monkeypatch.setattr(comm, "all_gather", lambda v: [v, v])
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    records = build_region_cache(cfg, model, dicts)
    starts = [int(p[-19:-12]) for p in order]
    assert starts == [2, 6, 0, 4]
    assert all(torch.equal(a[0][0], b) for a, b in zip(records, expected))


def test_seeds_share_a_cache(setting, monkeypatch, tmp_path):
    cfg, model, dicts = setting
    first = build_region_cache(changed(cfg, SEED=1), model, dicts)
    written = files(tmp_path)
    monkeypatch.setattr(region_cache, "frozen_regions", None)
    second = build_region_cache(changed(cfg, SEED=2), model, dicts)
    assert files(tmp_path) == written
    assert torch.equal(first[3][0][0], second[3][0][0])


def test_a_seed_of_its_own_draws_other_regions(setting):
    cfg, model, dicts = setting
    first = build_region_cache(cfg, model, dicts)
    second = build_region_cache(changed(cfg, LT_DET__REGION_CACHE__SEED=1), model, dicts)
    assert any(not torch.equal(a[0][0], b[0][0]) for a, b in zip(first, second))


_OTHER_RUN = """
import fcntl, sys
with open(sys.argv[1], "ab") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 1)
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_runs_side_by_side_share_the_work(setting, monkeypatch, tmp_path):
    """Another run is at shard 1 and writes it while this one writes the others."""
    cfg, model, dicts = setting
    monkeypatch.setattr(region_cache, "IMAGES_PER_SHARD", 2)
    expected = [r[0][0].clone() for r in build_region_cache(cfg, model, dicts)]
    shards = sorted(tmp_path.glob("regions_*/*.safetensors"))
    theirs = shards[1].read_bytes()
    for path in shards:
        path.unlink()
    command = [sys.executable, "-c", _OTHER_RUN, str(shards[0].parent / "locks")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    order = []
    write = region_cache.write_shard

    def watched(path, *args, **kwargs):
        write(path, *args, **kwargs)
        order.append(shards.index(Path(path)))
        if len(order) == 3:  # the other run is done, and gives its lock back
            shards[1].write_bytes(theirs)
            other.stdin.write("\n")
            other.stdin.flush()

    monkeypatch.setattr(region_cache, "write_shard", watched)
    try:
        assert other.stdout.readline() == "locked\n"
        records = build_region_cache(cfg, model, dicts)
    finally:
        other.kill()
        other.communicate()
    assert order == [0, 2, 3]
    assert all(torch.equal(a[0][0], b) for a, b in zip(records, expected))


def test_what_killed_runs_left_is_removed(setting, tmp_path):
    cfg, model, dicts = setting
    build_region_cache(cfg, model, dicts)
    (shard,) = tmp_path.glob("regions_*/*.safetensors")
    shard.unlink()
    left = shard.with_name(f"{shard.name}.0123.partial")
    left.write_bytes(b"x")
    build_region_cache(cfg, model, dicts)
    assert shard.exists()
    assert not left.exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_estimate_is_what_a_cache_takes_at_most(setting, tmp_path, dtype):
    cfg, model, dicts = setting
    cfg = changed(cfg, LT_DET__REGION_CACHE__DTYPE=dtype)
    writer = region_cache._ShardWriter(cfg, model, dicts, str(tmp_path / "regions_0"), mapper=None)
    records = build_region_cache(cfg, model, dicts)
    (head,) = classification_heads(model)
    size = {"float32": 4, "float16": 2}[dtype]
    rows = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    assert writer._largest_image() == rows * (head.cls_score.in_features * size + 4)
    assert max(len(r[0][1]) for r in records) <= rows


def test_other_caches_are_named_with_their_size(setting, tmp_path, caplog):
    cfg, model, dicts = setting
    other = tmp_path / "regions_0123"
    other.mkdir()
    with open(other / "epoch0_0000000.safetensors", "wb") as file:
        file.truncate(3 * 2**30)
    with caplog.at_level("INFO"):
        build_region_cache(cfg, model, dicts)
    assert [m for m in caplog.messages if "1 other region caches" in m and "3.0 GiB" in m]


def test_only_the_main_rank_computes_the_fingerprint(setting, monkeypatch):
    cfg, model, dicts = setting
    expected = build_region_cache(cfg, model, dicts)
    fingerprint = region_fingerprint(cfg, model, dicts, mapper=None)
    monkeypatch.setattr(region_cache, "region_fingerprint", None)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda v: [fingerprint if isinstance(v, str) else v, v])
    records = build_region_cache(cfg, model, dicts)
    assert torch.equal(records[0][0][0], expected[0][0][0])
