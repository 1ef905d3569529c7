"""Inspection: each kind of trouble is found, beside all others, and mended where it can be."""

from __future__ import annotations

import copy
import json
import math
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_det.config import default_keys
from lt_det.data.annotations.checks import check_annotations
from lt_det.data.inspection.data_sets import inspect_data_sets


def good(num_images: int = 4) -> dict:
    """Cat in every image, dog in the first."""
    images = [
        {"id": i + 1, "file_name": f"{i + 1}.png", "width": 40, "height": 30}
        for i in range(num_images)
    ]
    annotations = []
    for image, category in [*((i + 1, 1) for i in range(num_images)), (1, 2)]:
        x = 3 + 2 * category
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": category,
                "bbox": [x, 4, 10, 8],
                "area": 80,
                "iscrowd": 0,
                "segmentation": [[x, 4, x + 10, 4, x + 10, 12, x, 12]],
            }
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(4):
        pixels = np.full((30, 40, 3), 50 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i + 1}.png")
    return tmp_path


def kinds(inspection, harm: str = "") -> set[str]:
    return {one.kind for one in inspection.findings if harm in ("", one.harm)}


def inspect(folder: Path, content, *, images: bool = False, **options):
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    roots = [folder / "images"] if images else []
    return inspect_data_sets([path], image_roots=roots, **options)


def test_nothing_is_wrong_with_a_good_set(folder):
    found = inspect(folder, good(), images=True)
    assert found.findings == []
    assert found.is_usable
    assert found.files[0].mended == good()
    assert found.files[0].changes == {}


def put(key, value, row=0):
    return lambda c: c["annotations"][row].update({key: value})


def drop(where, key):
    return lambda c: [one.pop(key) for one in c[where]]


def text_ids(content):
    for image in content["images"]:
        image["id"] = f"img_{image['id']}"
    for one in content["annotations"]:
        one["image_id"] = f"img_{one['image_id']}"


def root_category(content):
    for category in content["categories"]:
        category["supercategory"] = "animals"
    content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})


RLE = {"size": [30, 40], "counts": [100, 50, 1050]}

# Fault, kind, harm, whether it is mended.
FAULTS = {
    "unknown image": (put("image_id", 99), "unknown-image", "error", False),
    "unknown class": (put("category_id", 99), "unknown-category", "error", False),
    "reference as text": (put("image_id", "1"), "unknown-image", "error", True),
    "class as text": (put("category_id", "1"), "unknown-category", "error", True),
    "nan": (put("bbox", [math.nan, 0, 1, 1]), "no-box", "error", False),
    "no box, but a mask": (lambda c: c["annotations"][0].pop("bbox"), "no-box", "error", True),
    "flat polygon": (put("segmentation", [1, 1, 9, 1, 9, 9]), "mask-flat", "error", True),
    "points": (put("segmentation", [[1, 1], [9, 1], [9, 9]]), "mask-points", "error", True),
    "listed points": (
        put("segmentation", [[[1, 1], [9, 1], [9, 9]], [[1, 1], [9, 1], [9, 9]]]),
        "mask-points",
        "error",
        True,
    ),
    "mask of nan": (put("segmentation", [[math.nan] * 6]), "mask-nan", "error", False),
    "no mask": (put("segmentation", "yes"), "mask-malformed", "error", False),
    "two points": (put("segmentation", [[1, 1, 9, 9]]), "polygon-too-short", "warning", False),
    "odd polygon beside a good one": (
        lambda c: c["annotations"][0]["segmentation"].append([1, 1, 9, 9, 2]),
        "polygon-part-too-short",
        "warning",
        False,
    ),
    "mixed": (put("segmentation", []), "masks-mixed", "error", False),
    "boxes only": (drop("annotations", "segmentation"), "boxes-only", "warning", False),
    "encoded": (put("segmentation", RLE), "masks-encoded", "warning", False),
    "encoded, swapped": (
        put("segmentation", {**RLE, "size": [40, 30]}),
        "rle-size",
        "error",
        False,
    ),
    "encoded, too short": (
        put("segmentation", {**RLE, "counts": [9]}),
        "rle-counts",
        "error",
        False,
    ),
    "outside": (put("bbox", [35, 4, 30, 8]), "box-outside", "warning", False),
    "flat": (put("bbox", [3, 4, 0, 8]), "box-flat", "warning", False),
    "within a pixel": (put("bbox", [0.1, 0.2, 0.3, 0.1]), "box-tiny", "warning", False),
    "fractions": (
        lambda c: [one.update(bbox=[0.1, 0.2, 0.3, 0.4]) for one in c["annotations"]],
        "box-fractions",
        "error",
        False,
    ),
    "crowds only": (
        lambda c: [one.update(iscrowd=1) for one in c["annotations"]],
        "all-crowds",
        "error",
        False,
    ),
    "crowd as text": (put("iscrowd", "0"), "iscrowd-type", "warning", True),
    "area 0": (put("area", 0), "wrong-area", "warning", True),
    "no area": (drop("annotations", "area"), "absent-area", "note", True),
    "no ids": (drop("annotations", "id"), "absent-annotation-id", "note", True),
    "repeated ids": (put("id", 2), "repeated-annotation-id", "error", True),
    "ids as text": (put("id", "1"), "annotation-id-type", "warning", True),
    "same object twice": (
        lambda c: c["annotations"].append({**c["annotations"][0], "id": 77}),
        "same-object-twice",
        "warning",
        False,
    ),
    "image ids as text": (text_ids, "image-id-type", "error", True),
    "repeated images": (
        lambda c: c["images"].append(dict(c["images"][0])),
        "repeated-image-id",
        "error",
        True,
    ),
    "two images of one id": (
        lambda c: c["images"][1].update(id=1),
        "repeated-image-id",
        "error",
        False,
    ),
    "same file": (
        lambda c: c["images"][1].update(file_name="1.png"),
        "same-file-twice",
        "warning",
        False,
    ),
    "no size": (drop("images", "width"), "no-image-size", "error", True),
    "negatives": (lambda c: c["annotations"].pop(3), "empty-images", "note", False),
    "neg ids in some": (
        lambda c: c["images"][0].update(neg_category_ids=[]),
        "absent-neg-category-ids",
        "warning",
        False,
    ),
    "category ids as text": (
        lambda c: [one.update(id=str(one["id"])) for one in c["categories"]],
        "category-id-type",
        "error",
        True,
    ),
    "same name": (
        lambda c: c["categories"][1].update(name="cat"),
        "repeated-category-name",
        "error",
        False,
    ),
    "nearly the same name": (
        lambda c: c["categories"][1].update(name="Cat "),
        "similar-names",
        "warning",
        False,
    ),
    "root": (root_category, "root-category", "warning", True),
    "class without object": (
        lambda c: c["categories"].append({"id": 9, "name": "yak"}),
        "class-without-object",
        "warning",
        False,
    ),
    "no annotation": (lambda c: c["annotations"].clear(), "no-annotations", "error", False),
    "no class": (lambda c: c["categories"].clear(), "no-categories", "error", False),
    "an annotation that is none": (
        lambda c: c["annotations"].append(3),
        "no-record",
        "error",
        False,
    ),
    "an id that is a list": (put("image_id", [1]), "no-record", "error", False),
    "windows name": (
        lambda c: c["images"][0].update(file_name="..\\x\\1.png"),
        "file-name",
        "error",
        True,
    ),
    "doubled folder": (
        lambda c: c["images"][0].update(file_name="images/1.png"),
        "file-name",
        "error",
        True,
    ),
    "other capitals": (
        lambda c: c["images"][0].update(file_name="1.PNG"),
        "file-name",
        "error",
        True,
    ),
    "missing image": (
        lambda c: c["images"][0].update(file_name="no.png"),
        "missing-image",
        "error",
        False,
    ),
    "other size": (lambda c: c["images"][0].update(width=41), "image-size", "error", False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_and_mended_without_a_guess(fault, folder):
    break_it, kind, harm, is_mended = FAULTS[fault]
    content = good()
    break_it(content)
    found = inspect(folder, content, images=True)
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.harm == harm
    assert finding.text()
    assert found.is_usable == ("error" not in {one.harm for one in found.findings})
    left = {one.kind for one in found.findings_after_mending()}
    assert (kind not in left) == is_mended
    if kind not in ("no-record",):  # checking stops at those with a traceback
        try:
            check_annotations(content, name="set")
        except (ValueError, KeyError):
            assert not found.is_usable, "training refuses it"


def test_everything_is_found_at_once_the_worst_first(folder):
    content = good()
    for name in ("area 0", "nan", "same name", "missing image", "no ids"):
        FAULTS[name][0](content)
    found = inspect(folder, content, images=True)
    assert kinds(found) >= {
        "wrong-area", "no-box", "repeated-category-name", "missing-image", "absent-annotation-id",
    }  # fmt: skip
    harms = [one.harm for one in found.findings]
    assert harms == sorted(harms, key=["error", "warning", "note"].index)
    box = next(one for one in found.findings if one.kind == "no-box")
    assert (box.count, box.total) == (1, 5)
    assert box.first == ("annotation #0 of image 1: [nan, 0, 1, 1]",)


def test_mending_puts_in_what_is_meant(folder):
    content = good()
    text_ids(content)
    content["annotations"][0].update(segmentation=[5, 4, 15, 4, 15, 12], area=0, id=2)
    del content["annotations"][1]["bbox"]
    content["annotations"][2].update(segmentation=[[5, 4], [15, 4], [15, 12]])
    mended = inspect(folder, content).files[0].mended
    assert [image["id"] for image in mended["images"]] == [1, 2, 3, 4]
    first, second, third = mended["annotations"][:3]
    assert first["segmentation"] == third["segmentation"] == [[5, 4, 15, 4, 15, 12]]
    assert first["area"] == 40  # half of the 10 x 8 box
    assert second["bbox"] == [5, 4, 10, 8]
    assert (first["image_id"], second["image_id"]) == (1, 2)
    assert [one["id"] for one in mended["annotations"]] == [2, 6, 3, 4, 5]
    assert content["annotations"][0]["area"] == 0


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", "empty-json", "is empty"),
        (json.dumps(good())[:-40], "cut-json", "ends in the middle"),
        ('{"images": [}', "no-json", "no json"),
        ("<annotation></annotation>", "foreign-json", "XML"),
        ('[{"image_id": 1, "score": 0.5}]', "foreign-json", "detections"),
        ('{"shapes": [], "imagePath": "a.jpg"}', "foreign-json", "LabelMe"),
        ('{"images": [{"id": 1}], "categories": []}', "foreign-json", "no annotations"),
        ('{"images": 3, "annotations": [], "categories": []}', "no-list", "'images' is a int"),
    ],
)
def test_files_of_another_kind_are_named(text, kind, says, folder):
    found = inspect(folder, text)
    assert not found.is_usable
    assert says in next(one for one in found.findings if one.kind == kind).text()


def test_a_byte_order_mark_is_a_note(folder):
    path = folder / "bom.json"
    path.write_text(json.dumps(good()), encoding="utf-8-sig")
    found = inspect_data_sets([path])
    assert kinds(found) == {"bom"}
    assert found.findings[0].mendable
    assert found.is_usable
    assert inspect_data_sets([folder / "no.json"]).findings[0].kind == "no-file"


def test_image_files_are_opened(folder):
    images = folder / "images"
    pixels = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) * 50
    Image.fromarray(pixels).save(images / "1.png")
    (images / "2.png").write_bytes(b"")
    data = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(data[: len(data) // 2])
    turned = Image.new("RGB", (40, 30))
    exif = Image.Exif()
    exif[274] = 6
    turned.save(images / "4.jpg", exif=exif)
    content = good(5)
    content["images"][3]["file_name"] = "4.jpg"
    content["images"][4]["file_name"] = "5.jpg"
    Image.new("CMYK", (40, 30)).save(images / "5.jpg")
    found = inspect(folder, content, images=True)
    assert kinds(found, "error") == {
        "image-depth", "empty-image", "broken-image", "image-rotated",
    }  # fmt: skip
    assert kinds(found, "warning") == {"image-cmyk"}
    rotated = next(one for one in found.findings if one.kind == "image-rotated")
    assert rotated.first == ("image 4 (4.jpg): json 40 x 30, file 30 x 40",)


def test_quick_finds_cut_files_by_their_end(folder):
    path = folder / "images" / "3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    found = inspect(folder, good(), images=True, quick=True)
    assert not found.is_usable
    assert "broken-image" in {one.kind for one in found.findings}
    assert kinds(inspect(folder, good(), images=True)) == {"broken-image"}


def test_splits_are_compared(folder):
    val = good(2)
    val["categories"] = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}]
    val["annotations"].pop(-1)  # dog, by the ids of val now cat
    (folder / "val.json").write_text(json.dumps(val))
    (folder / "train.json").write_text(json.dumps(good()))

    def found():
        return inspect_data_sets(
            [folder / "train.json"], [folder / "val.json"], image_roots=[folder / "images"]
        )

    assert kinds(found()) == {"class-ids-differ", "class-without-val-object", "image-in-both"}
    assert found().outlook.val == ((0, 0), (2, 2))
    val["categories"][0]["name"] = "yak"
    val["annotations"][0]["category_id"] = 2
    (folder / "val.json").write_text(json.dumps(val))
    assert kinds(found(), "error") == {"class-not-trained"}


def test_outlook_counts_and_repeats(folder):
    found = inspect(folder, good(), threshold=0.5, limits=(1, 3)).outlook
    assert found.train.image_counts == (4, 1)
    assert found.train.frequency_groups == ("f", "r")
    # f(dog) = 1/4, factor sqrt(0.5 / 0.25); in one of four images.
    assert found.factors == pytest.approx((1, math.sqrt(2)))
    assert found.repeats.draws == pytest.approx(3 + math.sqrt(2))
    assert (found.repeats.classes, found.repeats.images) == (1, 4)
    assert found.repeats.suggestion is None
    nothing = inspect(folder, good()).outlook.repeats
    assert (nothing.classes, nothing.draws) == (0, 4)
    # Logarithm of the prior against the mean count, 2.5.
    assert found.offsets() == pytest.approx((math.log(1 / 2.5), math.log(4 / 2.5), 4))


def test_repeats_are_those_of_detectron2(folder):
    samplers = pytest.importorskip("detectron2.data.samplers")
    content = good()
    found = inspect(folder, content, threshold=0.5).outlook
    dicts = [
        {"annotations": [a for a in content["annotations"] if a["image_id"] == image["id"]]}
        for image in content["images"]
    ]
    factors = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    assert found.repeats.draws == pytest.approx(float(factors(dicts, 0.5).sum()))


def test_masks_as_the_config_wants_them(folder):
    boxes, encoded = good(), good()
    for one in boxes["annotations"]:
        one["segmentation"] = []
    for one in encoded["annotations"]:
        one["segmentation"] = copy.deepcopy(RLE)
    for content, usable in (
        (boxes, {"auto", "off"}),
        (encoded, {"auto", "off", "bitmask"}),
        (good(), {"auto", "off", "polygon", "bitmask"}),
    ):
        for use in ("auto", "off", "polygon", "bitmask"):
            assert inspect(folder, content, masks=use).is_usable == (use in usable)


def test_objects_narrower_than_a_pixel_are_noted(folder):
    content = good()
    content["annotations"][0]["bbox"] = [3, 4, 0.4, 8]
    found = inspect(folder, content)
    assert kinds(found, "note") == {"box-narrow"}
    assert found.is_usable


def test_groups_are_those_of_a_training_unless_said_otherwise():
    keys = default_keys().CLASS_STATS
    limits = signature(inspect_data_sets).parameters["limits"].default
    assert limits == (keys.RARE_MAX, keys.COMMON_MAX)
