"""Inspection: declared counts, classes without a usable object, ids, areas, names and lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_det.data.annotations.areas import areas_of
from lt_det.data.annotations.checks import check_annotations, is_trained_on
from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.inspection.ids import as_int, colliding, free_numbers, whole_numbers


def good() -> dict:
    """Cat in each of four images, dog in the first."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 5)]
    annotations = [
        {"id": k + 1, "image_id": image, "category_id": category, "bbox": [x, 4, 10, 8],
         "area": 80, "iscrowd": 0, "segmentation": [[x, 4, x + 10, 4, x + 10, 12, x, 12]]}
        for k, (image, category, x) in enumerate(
            [(1, 1, 5), (2, 1, 5), (3, 1, 5), (4, 1, 5), (1, 2, 7)]
        )
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def inspected(folder: Path, content: dict, val: dict | None = None):
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "val.json").write_text(json.dumps(val or good()))
    return inspect_data_sets([folder / "train.json"], [folder / "val.json"] if val else [])


def every(where: str, **values) -> Callable[[dict], None]:
    return lambda c: [one.update(values) for one in c[where]]


def dogs(**values) -> Callable[[dict], None]:
    return lambda c: [a.update(values) for a in c["annotations"] if a["category_id"] == 2]


def declared(cats: tuple[int, int], dogs: tuple[int, int]) -> Callable[[dict], None]:
    return lambda c: [
        one.update(image_count=a, instance_count=b)
        for one, (a, b) in zip(c["categories"], (cats, dogs))
    ]


def without(where: str, key: str) -> Callable[[dict], None]:
    return lambda c: [one.pop(key) for one in c[where]]


def large_ids(content: dict) -> None:
    for one in content["images"]:
        one["id"] += 2**63
    for one in content["annotations"]:
        one["image_id"] += 2**63


def large_category_ids(content: dict) -> None:
    for one in content["categories"]:
        one["id"] += 2**63
    for one in content["annotations"]:
        one["category_id"] += 2**63


def fractions(content: dict) -> None:
    for one in content["annotations"]:
        one["area"] = 80 / 1200


TWO_POINTS = [[5, 4, 15, 12]]

# Fault, kind, harm, whether it is mended.
FAULTS = {
    "counts of a whole": (declared((9, 9), (1, 1)), "declared-counts", "warning", False),
    "counts of another": (declared((9, 9), (0, 0)), "declared-counts-other", "warning", False),
    "counts of some": (lambda c: c["categories"][0].update(image_count=4), "declared-counts-absent",
                       "note", False),
    "unknown frequency": (every("categories", frequency="x"), "frequency-type", "error", False),
    "frequency of some": (lambda c: c["categories"][0].update(frequency="r"), "frequency-unknown",
                          "warning", False),
    "other frequency": (every("categories", frequency="f"), "frequency-differs", "warning", False),
    "class of crowds": (dogs(iscrowd=1), "class-without-usable-object", "warning", False),
    "class of flat boxes": (dogs(bbox=[7, 4, 0, 8]), "class-without-usable-object", "warning",
                            False),
    "class of two points": (dogs(segmentation=TWO_POINTS), "class-without-usable-object",
                            "warning", False),
    "class outside": (dogs(bbox=[70, 4, 9, 8]), "class-without-usable-object", "warning", False),
    "all of two points": (every("annotations", segmentation=TWO_POINTS), "nothing-to-train",
                          "error", False),
    "all flat": (every("annotations", bbox=[5, 4, 0, 8]), "nothing-to-train", "error", False),
    "no class ids": (without("categories", "id"), "absent-category-id", "error", False),
    "class ids of null": (every("categories", id=None), "absent-category-id", "error", False),
    "no image ids": (without("images", "id"), "absent-image-id", "error", False),
    "large image ids": (large_ids, "image-id-type", "error", True),
    "large class ids": (large_category_ids, "category-id-type", "error", True),
    "large annotation id": (lambda c: c["annotations"][0].update(id=10**30), "annotation-id-type",
                            "warning", True),
    "area as text": (every("annotations", area="80.0"), "area-type", "warning", True),
    "huge area": (lambda c: c["annotations"][0].update(area=1e300), "wrong-area", "warning", True),
    "area above the image": (lambda c: c["annotations"][0].update(area=1201), "wrong-area",
                             "warning", True),
    "areas as fractions": (fractions, "wrong-area", "warning", True),
    "image 1 as text, too": (lambda c: c["images"][1].update(id="1"), "image-ids-collide", "error",
                             False),
    "class 1 as text, too": (lambda c: c["categories"][1].update(id="1"), "category-ids-collide",
                             "error", False),
    "every fifth a crowd": (dogs(iscrowd=True), "many-crowds", "warning", False),
    **{f"crowd {flag!r}": (dogs(iscrowd=flag), "iscrowd-unclear", "warning", False)
       for flag in (-1, 0.5, 2, "maybe")},
    **{f"crowd {flag!r}": (lambda c, flag=flag: c["annotations"][0].update(iscrowd=flag),
                           "iscrowd-type", "warning", True) for flag in ("false", "no", "0.0")},
    "areas of one pixel": (every("annotations", area=1), "area-far-below-mask", "warning", False),
    "areas of boxes of one pixel": (every("annotations", area=1, segmentation=[]),
                                    "area-far-below-mask", "warning", False),
    "areas above boxes": (every("annotations", area=900), "area-larger-than-box", "warning", False),
    "empty name": (lambda c: c["categories"][0].update(name=" "), "empty-category-name", "warning",
                   False),
    "unknown absent class": (every("images", neg_category_ids=[9]), "unknown-neg-category-ids",
                             "warning", False),
    "unknown incomplete class": (every("images", not_exhaustive_category_ids=[9]),
                                 "unknown-not-exhaustive-category-ids", "warning", False),
    "absent and there": (every("images", neg_category_ids=[2]), "absent-and-annotated", "warning",
                         False),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_and_mended_without_a_guess(fault, tmp_path):
    change, kind, harm, is_mended = FAULTS[fault]
    content = good()
    change(content)
    found = inspected(tmp_path, content)
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.harm == harm
    assert finding.text()
    left = found.findings_after_mending()
    assert (kind not in {one.kind for one in left}) == is_mended
    if is_mended:
        mended = found.files[0].mended
        assert check_annotations(mended, name="set") == []
        assert {type(one["area"]) for one in mended["annotations"]} <= {int, float}
        assert all(one["area"] == 80 for one in mended["annotations"])


def test_the_lost_classes_are_named_with_the_reason(tmp_path):
    content = good()
    dogs(iscrowd=1)(content)
    (finding,) = (f for f in inspected(tmp_path, content).findings if "usable" in f.kind)
    assert finding.first == ("dog (1 crowds)",)


def test_a_validation_class_of_crowds_has_no_object(tmp_path):
    val = good()
    dogs(iscrowd=1)(val)
    found = inspected(tmp_path, good(), val)
    (finding,) = (f for f in found.findings if f.kind == "class-without-val-object")
    assert finding.first == ("dog",)
    declared((9, 9), (0, 0))(val)  # LVIS writes those of the training set into it
    assert not [f for f in inspected(tmp_path, good(), val).findings if "declared" in f.kind]


@pytest.mark.parametrize("key", ["image", "category"])
def test_ids_that_are_one_number_are_not_called_mendable(key, tmp_path):
    content = good()
    where = {"image": "images", "category": "categories"}[key]
    content[where][1]["id"] = "1"
    found = inspected(tmp_path, content).findings
    assert not [one.kind for one in found if one.kind.startswith(f"{key}-id") and one.mendable]
    assert colliding([1, 1, 2.0, 2, "3", None, "x"]) == {}


def test_ids_are_mended_within_64_bits():
    assert as_int(2**63 - 1) == 2**63 - 1
    assert as_int(2**63) is as_int(str(2**63)) is as_int(1e30) is as_int("9" * 5000) is None
    assert whole_numbers([2**63, 5, "x"]) == {2**63: 6, 5: 5, "x": 7}
    free = free_numbers({1, 3, 2**63 - 1})
    assert [next(free) for _ in range(3)] == [2, 4, 5]


def test_areas_that_no_image_holds_are_not_believed():
    annotations = [
        {"id": 1, "image_id": 1, "bbox": [0, 0, 10, 8], "area": area}
        for area in (70, 1200, 1201, 1e300, math.inf)
    ]
    assert areas_of(annotations, {1: (30, 40)}, name="x").tolist() == [70, 1200, 80, 80, 80]
    assert areas_of(annotations[:3], {}, name="x").tolist() == [70, 1200, 1201]
    small = [{"image_id": 1, "bbox": [0, 0, 1, 1], "area": 0.5}]
    assert areas_of(small, {1: (30, 40)}, name="x").tolist() == [0.5]


def test_what_is_no_clear_flag_stays_and_is_trained_on_as_it_is_said(tmp_path):
    content = good()
    dogs(iscrowd=0.5)(content)
    inspection = inspected(tmp_path, content)
    mended = inspection.files[0].mended
    assert [one["iscrowd"] for one in mended["annotations"]] == [0, 0, 0, 0, 0.5]
    assert "iscrowd" not in inspection.files[0].changes
    (finding,) = (one for one in inspection.findings if one.kind == "iscrowd-unclear")
    assert "1 of these are taken as crowds" in finding.advice
    assert not is_trained_on(mended["annotations"][-1])
