"""A ground truth out of the cache is the one that was read and checked."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import asdict

import numpy as np
import pytest

from lt_det.data.warn_once import warn_once
from lt_det.evaluation.lvis import ground_truth as module
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from lt_det.evaluation.lvis.stored_truth import stored_truth
from tests.evaluation.lvis.sets import random_detections, random_ground_truth


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Jsons of any size go to a cache of the test's own."""
    folder = tmp_path / "cache"
    small = functools.partial(stored_truth, cache_dir=folder, smallest=0)
    monkeypatch.setattr(module, "stored_truth", small)
    return folder


def content(kind):
    truth = random_ground_truth(np.random.default_rng(5))
    if kind == "exhaustive":
        for image in truth["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    if kind == "crowds":
        for one in truth["annotations"][::4]:
            one["iscrowd"] = 1
    if kind == "no areas":
        for one in truth["annotations"][::3]:
            del one["area"]
    if kind == "empty":
        truth["annotations"] = []
    return truth


def written(path, truth):
    path.write_text(json.dumps(truth))
    return path


def parse_no_more(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the json was parsed again")

    for name in ("read_box_json", "read_annotation_json"):
        monkeypatch.setattr(module, name, never)


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("kind", ["federated", "exhaustive", "crowds", "no areas", "empty"])
def test_it_comes_back_as_it_was(kind, with_masks, cache, tmp_path, monkeypatch, caplog):
    truth = content(kind)
    for one in truth["annotations"][1::5]:
        del one["segmentation"]
    for one in truth["annotations"][2::5]:
        one["segmentation"] = {"size": [128, 128], "counts": [0, 7, 128 * 128 - 7]}
    path = written(tmp_path / "gt.json", truth)
    expected = read_ground_truth(truth, with_masks=with_masks, name="a set")
    said = []
    for _ in range(2):
        module._say_exhaustive.cache_clear()
        warn_once.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = read_ground_truth(path, with_masks=with_masks, name="a set")
        said.append([r.getMessage() for r in caplog.records if "ache" not in r.getMessage()])
        parse_no_more(monkeypatch)
        assert found.images == expected.images
        assert list(found.annotations) == expected.annotations
        assert found.annotations[1:3] == expected.annotations[1:3]
        assert found.categories == expected.categories
        for name, column in vars(expected.columns).items():
            np.testing.assert_array_equal(getattr(found.columns, name), column)
            assert getattr(found.columns, name).dtype == column.dtype
        assert found.of_categories({1, 2}).annotations == expected.of_categories({1, 2}).annotations
    assert said[0] == said[1]
    word = {"exhaustive": "exhaustively", "crowds": "crowds in", "no areas": "'area' is missing"}
    assert word.get(kind, "") in " ".join(said[0])


@pytest.mark.parametrize("backend", ["hotcoco", "lvis-api"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_metric_is_the_same(backend, iou_type, cache, tmp_path, monkeypatch):
    rng = np.random.default_rng(6)
    truth = random_ground_truth(rng)
    found = random_detections(rng, truth, per_image=6)
    path = written(tmp_path / "gt.json", truth)
    results = [lvis_average_precision(truth, found, iou_type=iou_type, backend=backend)]
    for _ in range(2):
        results.append(lvis_average_precision(path, found, iou_type=iou_type, backend=backend))
        parse_no_more(monkeypatch)
    for result in results[1:]:
        np.testing.assert_equal(asdict(result), asdict(results[0]))


def test_another_json_is_read(cache, tmp_path):
    truth = content("federated")
    path = written(tmp_path / "gt.json", truth)
    number = len(read_ground_truth(path, with_masks=False).annotations)
    read_ground_truth(path, with_masks=False)
    truth["annotations"].pop()
    written(path, truth)
    assert len(read_ground_truth(path, with_masks=False).annotations) == number - 1


@pytest.mark.parametrize("at", [30, -30])
def test_a_broken_file_costs_a_reading_only(at, cache, tmp_path):
    path = written(tmp_path / "gt.json", content("federated"))
    expected = list(read_ground_truth(path, with_masks=False).annotations)
    (file,) = cache.glob("records_*.bin")
    data = bytearray(file.read_bytes())
    data[at] ^= 255
    file.write_bytes(data)
    assert list(read_ground_truth(path, with_masks=False).annotations) == expected


def test_what_is_wrong_is_said_each_time(cache, tmp_path):
    truth = content("federated")
    truth["annotations"][0]["bbox"] = [1, 2, -3, 4]
    path = written(tmp_path / "gt.json", truth)
    for _ in range(2):
        with pytest.raises(ValueError, match="'bbox'"):
            read_ground_truth(path, with_masks=False)
    assert not list(cache.glob("records_*.bin"))


def test_masks_lie_apart(cache, tmp_path):
    path = written(tmp_path / "gt.json", content("federated"))
    for with_masks in (False, True, False, True):
        (one, *_) = read_ground_truth(path, with_masks=with_masks).annotations
        assert ("segmentation" in one) == with_masks
    assert len(list(cache.glob("records_*.bin"))) == 2
