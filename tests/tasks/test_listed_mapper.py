"""What the record of an image says of each class, beside the sample of another mapper."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from lt_det.data.annotations.datasets import load_lvis_format_json
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, INCOMPLETE, KNOWN, UNKNOWN
from lt_det.tasks.listed_mapper import PASTED_CLASSES, ListedMapper

#: Category ids of the json: sparse, and not in the order of the classes.
ID_MAP = {3: 0, 7: 1, 20: 2, 4: 3}


def sample_of(record: dict) -> dict:
    """A mapper that crops: no annotation is left."""
    return {key: value for key, value in record.items() if key != "annotations"}


def record(**lists: object) -> dict:
    annotations = [{"category_id": 0}, {"category_id": 2, "iscrowd": 1}]
    return {"image_id": 5, "annotations": annotations, **lists}


def knowledge(mapper=sample_of, *, exhaustive=False, **lists: object) -> list[int]:
    listed = ListedMapper(mapper, num_classes=4, id_map=ID_MAP, exhaustive=exhaustive)
    listed = pickle.loads(pickle.dumps(listed)) if mapper is sample_of else listed
    return listed(record(**lists))[CLASS_KNOWLEDGE].tolist()


@pytest.mark.parametrize(
    ("lists", "exhaustive", "expected"),
    [
        # Nothing is said: annotated exhaustively, as COCO is.
        ({}, False, [KNOWN, KNOWN, KNOWN, KNOWN]),
        ({"not_exhaustive_category_ids": [20]}, False, [KNOWN, KNOWN, INCOMPLETE, KNOWN]),
        ({"neg_category_ids": []}, False, [KNOWN, UNKNOWN, KNOWN, UNKNOWN]),
        ({"neg_category_ids": []}, True, [KNOWN, KNOWN, KNOWN, KNOWN]),
        # 99 is no class that is trained.
        (
            {"neg_category_ids": [4, 99], "not_exhaustive_category_ids": [3, 99]},
            False,
            [INCOMPLETE, UNKNOWN, KNOWN, KNOWN],
        ),
    ],
)
def test_knowledge_of_each_class(lists, exhaustive, expected):
    assert knowledge(exhaustive=exhaustive, **lists) == expected


def test_what_is_negative_and_annotated_is_warned_of(caplog):
    assert knowledge(neg_category_ids=[20]) == [KNOWN, UNKNOWN, KNOWN, UNKNOWN]
    assert "image 5: class index 2 is in neg_category_ids and annotated" in caplog.text


def test_a_mapper_may_change_the_lists_and_paste():
    def pasting(record: dict) -> dict:
        record["annotations"].clear()  # changes its record in place
        return {"neg_category_ids": [], "not_exhaustive_category_ids": [4], PASTED_CLASSES: [1, 3]}

    assert knowledge(pasting, neg_category_ids=[7]) == [KNOWN, KNOWN, KNOWN, INCOMPLETE]


def test_ids_are_those_of_the_classes_where_no_json_is_known():
    listed = ListedMapper(sample_of, num_classes=4)
    found = listed(record(neg_category_ids=[3]))[CLASS_KNOWLEDGE].tolist()
    assert found == [KNOWN, UNKNOWN, KNOWN, KNOWN]


def test_a_sample_that_is_left_out_stays_out():
    assert ListedMapper(lambda _: None, num_classes=4)(record()) is None


def test_what_is_known_of_real_images_is_what_the_evaluation_counts():
    path = Path(__file__).resolve().parents[3] / "shared/data/lvis/lvis_v0.5_val_100.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    content = json.loads(path.read_text())
    records = load_lvis_format_json(path, name="lvis_of_listed_mapper")
    ids = MetadataCatalog.get("lvis_of_listed_mapper").thing_dataset_id_to_contiguous_id
    listed = ListedMapper(sample_of, num_classes=len(ids), id_map=ids)
    annotated = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
    by_id = {image["id"]: image for image in content["images"]}
    seen = set()
    for record in records:
        found = listed(record)[CLASS_KNOWLEDGE].tolist()
        image = by_id[record["image_id"]]
        for i, index in ids.items():
            if i in image["neg_category_ids"]:
                expected = KNOWN
            elif (image["id"], i) not in annotated:
                expected = UNKNOWN
            else:
                expected = INCOMPLETE if i in image["not_exhaustive_category_ids"] else KNOWN
            assert found[index] == expected
            seen.add(expected)
    assert seen == {UNKNOWN, INCOMPLETE, KNOWN}
