"""A json that is read without its polygons is the json without its polygons."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lt_det.evaluation.lvis.box_json import read_box_json
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from tests.evaluation.lvis.sets import random_ground_truth


def content_with(*segmentations, **annotation):
    content = random_ground_truth(np.random.default_rng(0))
    content["annotations"] = content["annotations"][: len(segmentations)]
    for one, segmentation in zip(content["annotations"], segmentations):
        one.update(segmentation=segmentation, **annotation)
    return content


def written(path, content, **options):
    path.write_text(json.dumps(content, **options))
    return path


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_all_but_the_polygons_stays(tmp_path, options):
    content = random_ground_truth(np.random.default_rng(1))
    content["categories"][0]["name"] = 'a "segmentation": [[1, 2, 3, 4, 5, 6]] of it'
    content["info"] = {"segmentation": [[1, 2, 3, 4, 5, 6]], "text": '"segmentation": [[1, 2, 3]]'}
    for one in content["annotations"]:
        one["area"] = one["area"] or 1.0  # without, the mask would be needed
    found = read_box_json(written(tmp_path / "a.json", content, **options), name="a")
    for one in content["annotations"]:
        del one["segmentation"]
    rest = [{k: v for k, v in one.items() if v is not None} for one in found["annotations"]]
    assert rest == content["annotations"]
    assert found["images"] == content["images"]
    assert found["categories"] == content["categories"]
    assert found["info"]["text"] == content["info"]["text"]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, float("nan"), 6]], "no finite number"),
        ([[1, 2, 3, 4, 1e7, 6]], "a million pixels away"),
        ([1, 2, 3, 4, 5, 6], "flat list"),
        ([[1, 2], [3, 4], [5, 6]], "list of points"),
        ([[1, 2, "3", 4, 5, 6]], "neither a list of polygons"),
    ],
)
def test_what_is_wrong_with_a_mask_is_said_all_the_same(tmp_path, segmentation, message):
    good = [[1, 2, 30, 4, 5, 60.5]]
    path = written(tmp_path / "a.json", content_with(good, segmentation, good))
    with pytest.raises(ValueError, match=message):
        read_ground_truth(path, with_masks=False)


def test_an_area_that_is_missing_is_that_of_the_polygon(tmp_path):
    triangle = [[10, 10, 30, 10, 10, 30]]
    content = content_with(triangle, triangle)
    del content["annotations"][1]["area"]
    truth = read_ground_truth(written(tmp_path / "a.json", content), with_masks=False)
    assert truth.annotations[0]["area"] == content["annotations"][0]["area"]
    box = content["annotations"][1]["bbox"]
    assert truth.annotations[1]["area"] == pytest.approx(200, rel=0.1) != box[2] * box[3]


def test_a_broken_file_is_named_with_the_place(tmp_path):
    text = json.dumps(content_with([[1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6]]))
    for broken in (text[:-1], text.replace("[[1, ", "[[01, "), text.replace("6]]", "6,]]")):
        (tmp_path / "a.json").write_text(broken)
        with pytest.raises(ValueError, match=r"a.json is no valid json: .*\(char \d+\)"):
            read_box_json(tmp_path / "a.json", name="a")
