"""Errors of a mapper name the file and the annotation."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from lt_det.data.images.unusable_image import UnusableImageError
from lt_det.engine.loading.record_errors import RecordError, naming_record
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config
from tests.engine.tiny import tiny_config


def first_batches(cfg, records, number=8):
    from lt_det.engine.loading.build import build_train_stream

    batches = iter(build_train_stream(cfg, records))
    for _ in range(number):
        next(batches)


def records_of(cfg):
    return [
        {**r, "annotations": [dict(a) for a in r["annotations"]]}
        for r in DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_annotation_is_named(tmp_path, workers):
    keys = {"DATALOADER__NUM_WORKERS": workers, "INPUT__MASK_FORMAT": "bitmask"}
    cfg = tiny_config(tmp_path, **keys)
    records = records_of(cfg)
    records[4]["annotations"][1]["segmentation"] = {"size": [5, 5], "counts": "b05"}
    with pytest.raises(RecordError) as caught:
        first_batches(cfg, records)
    text = str(caught.value)
    assert "image 5 (" in text
    assert "5.png), annotation" in text
    assert f"bbox {records[4]['annotations'][1]['bbox']}" in text


def test_a_cut_image_is_named_once_and_without_an_annotation(tmp_path, monkeypatch):
    cfg = tiny_config(tmp_path)
    records = records_of(cfg)
    path = Path(records[2]["file_name"])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN.*1 of .* first .*3.png: .*truncated"):
        first_batches(cfg, records)
    # As if it broke after the start.
    monkeypatch.setattr("lt_det.engine.loading.build.check_image_files", lambda *_, **__: None)
    with pytest.raises(UnusableImageError) as caught:
        first_batches(cfg, records)
    text = str(caught.value)
    assert text.startswith(f"image 3: {path} cannot be used (OSError: image file is truncated")
    assert text.count("cannot be used") == text.count(str(path)) == text.count("check-data") == 1


def test_an_image_to_classify_is_named(tmp_path, monkeypatch):
    cfg = digits_config(tmp_path)
    (tmp_path / "a.png").write_text("x")
    records = list(DatasetCatalog.get(cfg.DATASETS.TRAIN[0]))
    records = [
        {**{k: v for k, v in r.items() if k != "image"}, "file_name": str(tmp_path / "a.png")}
        for r in records
    ]
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN.*a\.png"):
        first_batches(cfg, records)
    monkeypatch.setattr("lt_det.engine.loading.build.check_image_files", lambda *_, **__: None)
    with pytest.raises(UnusableImageError, match=r"^image \S+: \S*a\.png is no image"):
        first_batches(cfg, records)


def test_good_records_are_drawn_as_before(tmp_path):
    cfg = tiny_config(tmp_path)
    assert len(next(iter(LongTailTrainer.build_train_loader(cfg)))) == 2


def test_of_a_missing_package_no_record_is_guilty():
    record, error = {"file_name": "a.jpg"}, ModuleNotFoundError("No module named 'shapely'")
    with pytest.raises(ModuleNotFoundError), naming_record(record, lambda record: record):
        raise error
