"""What is said at the start of images that are trained and evaluated on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.warn_once import warn_once
from lt_det.engine.loading.build import build_train_stream
from lt_det.engine.loading.shared_images import warn_of_shared_images
from tests.engine.tiny import tiny_config

NAME = "shared_images"


@pytest.mark.parametrize("leaks", [True, False])
def test_a_leak_is_one_warning(tmp_path, caplog, leaks):
    warn_once.cache_clear()
    cfg = tiny_config(tmp_path)
    _, json_file, root = cfg.LT_DET.DATASETS[0]
    content = json.loads(Path(json_file).read_text())
    for row, image in enumerate(content["images"]):
        is_leak = leaks and row == 0
        image["file_name"] = f"./{image['file_name']}" if is_leak else f"other_{row}.jpg"
    (tmp_path / "test.json").write_text(json.dumps(content))
    register_lvis_format(NAME, tmp_path / "test.json", root)
    cfg.DATASETS.TEST = (NAME,)
    try:
        assert len(build_train_stream(cfg).items) > 0
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    said = [r.message for r in caplog.records if "are trained on too" in r.message]
    assert len(said) == leaks
    if leaks:
        assert f"1 of {len(content['images'])} images" in said[0]
        assert "heart" in said[0]


def test_paths_of_the_training_set_are_resolved_too(tmp_path, caplog):
    warn_once.cache_clear()
    cfg = tiny_config(tmp_path)
    name, json_file, root = cfg.LT_DET.DATASETS[0]
    first = json.loads(Path(json_file).read_text())["images"][0]["file_name"]
    cfg.DATASETS.TEST = (name,)
    warn_of_shared_images(cfg, [{"file_name": f"{root}/./{first}"}, {"file_name": "s3://x/y.jpg"}])
    assert "1 of " in caplog.text


def test_a_test_set_that_cannot_be_read_is_left_to_the_evaluation(tmp_path):
    cfg = tiny_config(tmp_path)
    (tmp_path / "test.json").write_text("[")
    MetadataCatalog.get(NAME).set(json_file=str(tmp_path / "test.json"))
    cfg.DATASETS.TEST = (NAME, "nobody_registered_it")
    try:
        build_train_stream(cfg)
    finally:
        MetadataCatalog.remove(NAME)
