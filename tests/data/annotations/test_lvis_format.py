"""LVIS-format json to dataset dicts: paths, masks, federated lists."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from lt_det.data.annotations.lvis_format import image_path_rule, lvis_dataset_dicts

IDS = {4: 0, 11: 1, 50: 2}


def dicts_of(content, root=""):
    return lvis_dataset_dicts(content, name="tiny", image_root=root, id_map=IDS, box_mode="xywh")


def test_records_are_complete_and_sorted_by_image(tiny):
    records = dicts_of(tiny, "root")
    assert [record["image_id"] for record in records] == [2, 3, 7, 9]
    first, second, crowd, empty = records
    assert first["file_name"] == "root/two.jpg"
    assert (first["height"], first["width"]) == (10, 20)
    assert [a["category_id"] for a in first["annotations"]] == [2, 2, 0]
    assert second["annotations"] == [
        {
            "bbox": [1, 1, 5, 5],
            "bbox_mode": "xywh",
            "category_id": 2,
            "segmentation": [[1, 1, 6, 1, 6, 6]],
        }
    ]
    assert crowd["annotations"][0]["iscrowd"] == 1
    assert empty["annotations"] == []


def test_federated_lists_keep_the_ids_of_the_json(tiny):
    for image in tiny["images"]:
        image.update(neg_category_ids=[11, 50], not_exhaustive_category_ids=[4])
    first = dicts_of(tiny)[0]
    assert first["neg_category_ids"] == [11, 50]
    assert first["not_exhaustive_category_ids"] == [4]


def test_missing_federated_lists_give_one_warning_each_and_empty_lists(tiny, caplog):
    tiny["images"][0]["neg_category_ids"] = [4]
    for _ in range(2):
        records = dicts_of(tiny)
    assert [r["neg_category_ids"] for r in records] == [[], [], [], [4]]
    assert all(r["not_exhaustive_category_ids"] == [] for r in records)
    texts = [r.getMessage() for r in caplog.records if "have no" in r.getMessage()]
    assert len(texts) == 2
    assert "3 of 4 images have no 'neg_category_ids'" in texts[0]
    assert "counts no false positive of a class that is not annotated in these" in texts[0]


def test_a_set_without_negative_lists_is_said_to_be_exhaustive(tiny, caplog):
    tiny["images"][0]["not_exhaustive_category_ids"] = [4]
    lvis_dataset_dicts(tiny, name="none_at_all", image_root="", id_map=IDS, box_mode="xywh")
    (text,) = [r.getMessage() for r in caplog.records if "'neg_category_ids'" in r.getMessage()]
    assert "4 of 4 images" in text
    assert "absent from its image is a false positive" in text
    assert "counts no false positive" not in text


def test_coco_format_lacks_nothing(tiny, caplog):
    lvis_dataset_dicts(tiny, name="of_coco", image_root="", id_map=IDS, box_mode="xywh")
    assert "category_ids" not in caplog.text


def test_only_valid_polygons_are_kept_and_maskless_instances_stay(tiny):
    first, second, third = tiny["annotations"][:3]
    first["segmentation"] = [[0, 0, 1, 1], [0, 0, 1, 1, 2, 0]]
    second["segmentation"] = [[0, 0, 1, 1]]
    del third["segmentation"]
    kept = dicts_of(tiny)[0]["annotations"]
    assert len(kept) == 2
    assert kept[0]["segmentation"] == [[0, 0, 1, 1, 2, 0]]
    assert "segmentation" not in kept[1]


def test_run_length_masks_of_both_kinds_decode_to_the_same_pixels(tiny, caplog):
    mask = pytest.importorskip("pycocotools.mask")
    pixels = np.zeros((10, 20), dtype=np.uint8, order="F")
    pixels[2:6, 3:9] = 1
    flat, runs, value = pixels.flatten(order="F"), [], 0
    while flat.size:
        run = int(np.argmax(flat != value)) if (flat != value).any() else flat.size
        runs.append(run)
        flat, value = flat[run:], 1 - value
    compressed = mask.encode(pixels)
    compressed["counts"] = compressed["counts"].decode()  # as json holds it
    tiny["annotations"][0]["segmentation"] = {"size": [10, 20], "counts": runs}
    tiny["annotations"][1]["segmentation"] = compressed
    with caplog.at_level(logging.INFO):
        kept = dicts_of(tiny)[0]["annotations"]
    for annotation in kept[:2]:
        np.testing.assert_array_equal(mask.decode(annotation["segmentation"]), pixels)
    utils = pytest.importorskip("detectron2.data.detection_utils")
    for annotation in kept:
        annotation["bbox_mode"] = utils.BoxMode.XYWH_ABS
    instances = utils.annotations_to_instances(kept, (10, 20), mask_format="bitmask")
    np.testing.assert_array_equal(instances.gt_masks.tensor[1].numpy(), pixels.astype(bool))
    assert "2 masks are run-length encoded" in caplog.text
    assert "INPUT.MASK_FORMAT" in caplog.text


def test_repeated_annotation_ids_are_refused(tiny):
    tiny["annotations"][1]["id"] = 1
    with pytest.raises(ValueError, match=r"'tiny'.*'id' of 'annotations'.*\[1\]"):
        dicts_of(tiny)


def test_an_image_without_size_is_refused(tiny):
    del tiny["images"][1]["height"]
    with pytest.raises(ValueError, match=r"'tiny'.*'height'.*first ids 2: "):
        dicts_of(tiny)


ENTRY = {
    "id": 42,
    "file_name": "COCO_val2014_000000000042.jpg",
    "coco_url": "http://images.org/val2017/000000000042.jpg",
}


@pytest.mark.parametrize(
    ("on_disk", "expected"),
    [
        (["COCO_val2014_000000000042.jpg", "000000000042.jpg"], "COCO_val2014_000000000042.jpg"),
        (["val2017/000000000042.jpg"], "val2017/000000000042.jpg"),
        (["000000000042.jpg"], "000000000042.jpg"),
        ([], "COCO_val2014_000000000042.jpg"),
    ],
)
def test_the_path_rule_is_the_one_under_which_the_first_image_exists(tmp_path, on_disk, expected):
    for file_name in on_disk:
        (tmp_path / file_name).parent.mkdir(exist_ok=True)
        (tmp_path / file_name).touch()
    path_of = image_path_rule([ENTRY], tmp_path)
    assert path_of(ENTRY) == str(tmp_path / expected)


def test_without_file_name_the_url_and_without_url_the_id_names_the_image(tmp_path):
    url_only = {"id": 7, "coco_url": "http://images.org/train2017/x.jpg"}
    path_of = image_path_rule([url_only], tmp_path)
    assert path_of(url_only) == str(tmp_path / "train2017/x.jpg")
    assert path_of({"id": 7}) == str(tmp_path / "000000000007.jpg")


def test_a_wrong_image_root_is_a_warning_with_the_path_looked_for(tiny, caplog):
    dicts_of(tiny, "nowhere")
    assert "first image is not at nowhere/two.jpg" in caplog.text
