"""ClassStats: counting, groups, clamping, merging, and the way into a checkpoint and back."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_det.data.stats.class_stats import ClassStats, count_annotations, merge_class_stats
from lt_det.data.stats.frequency_groups import frequency_groups, group_members

NAMES = ("cat", "dog", "yak")


def stats_of(images=(1, 20, 300), instances=None, **changes) -> ClassStats:
    values = {
        "name": "zoo",
        "class_names": NAMES,
        "image_counts": images,
        "instance_counts": images if instances is None else instances,
        "num_images": max(images),
        "source": "annotations",
    }
    return ClassStats(**{**values, **changes})


def record(*class_ids: int, crowd: tuple[int, ...] = ()) -> dict:
    annotations = [{"category_id": i} for i in class_ids]
    return {"annotations": annotations + [{"category_id": i, "iscrowd": 1} for i in crowd]}


def test_images_count_once_and_instances_each_time():
    stats = count_annotations([record(0, 0, 2), record(2), record()], NAMES, name="zoo")
    assert stats.image_counts == (1, 0, 2)
    assert stats.instance_counts == (2, 0, 2)
    assert stats.num_images == 2
    assert stats.source == "annotations"


def test_crowds_are_not_counted_nor_is_an_image_with_nothing_else():
    stats = count_annotations([record(1, crowd=(0, 1)), record(crowd=(0,))], NAMES, name="zoo")
    assert stats.image_counts == (0, 1, 0)
    assert stats.instance_counts == (0, 1, 0)
    assert stats.num_images == 1


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6), min_size=1))
def test_counts_equal_a_plain_restatement(images):
    dicts = [
        {"annotations": [{"category_id": c, "iscrowd": int(crowd)} for c, crowd in image]}
        for image in images
    ]
    shown, number, annotated = defaultdict(set), defaultdict(int), set()
    for index, image in enumerate(images):
        for c, crowd in image:
            if not crowd:
                shown[c].add(index)
                number[c] += 1
                annotated.add(index)
    stats = count_annotations(dicts, NAMES, name="zoo")
    assert stats.image_counts == tuple(len(shown[c]) for c in range(3))
    assert stats.instance_counts == tuple(number[c] for c in range(3))
    assert stats.num_images == len(annotated)


def test_counts_are_plain_python_integers_also_from_numpy_ids():
    stats = count_annotations([{"annotations": [{"category_id": np.int64(1)}]}], NAMES, name="z")
    assert stats.image_counts == (0, 1, 0)
    assert {type(n) for n in (*stats.image_counts, *stats.instance_counts)} == {int}


@pytest.mark.parametrize("class_id", [3, -1, None, 1.5, "cat"])
def test_an_id_out_of_range_is_named_with_its_image(class_id):
    dicts = [record(0), {"image_id": 77, "annotations": [{"category_id": class_id}]}]
    with pytest.raises(ValueError, match=r"'zoo'.*category_id of 1.*0\.\.2.*image 77"):
        count_annotations(dicts, NAMES, name="zoo")


@pytest.mark.parametrize(
    ("bbox", "mode"),
    [([0, 0, -1, 5], 1), ([5, 5, 4, 9], 0), ([0, float("nan"), 1, 1], 1), ([0, 0, 1], 1)],
)
def test_a_bad_box_is_named_with_its_image(bbox, mode):
    annotation = {"category_id": 0, "bbox": bbox, "bbox_mode": mode}
    with pytest.raises(ValueError, match=r"'zoo'.*bbox of 1.*image 5, annotation #0"):
        count_annotations([{"image_id": 5, "annotations": [annotation]}], NAMES, name="zoo")


def test_corners_and_zero_areas_are_good_boxes():
    boxes = [([5, 5, 5, 9], 0), ([-3, 5, 4, 0], 1), ([5, 5, 4, 3, 45.0], 4)]
    annotations = [{"category_id": 0, "bbox": box, "bbox_mode": mode} for box, mode in boxes]
    assert (
        count_annotations([{"annotations": annotations}], NAMES, name="z").instance_counts[0] == 3
    )


def test_an_empty_image_list_is_an_error():
    with pytest.raises(ValueError, match="'zoo': the image list is empty"):
        count_annotations([], NAMES, name="zoo")


def test_lvis_limits_part_the_groups_on_both_sides():
    assert frequency_groups([0, 1, 10, 11, 100, 101]) == ("r", "r", "r", "c", "c", "f")
    assert frequency_groups([2, 3, 5, 6], rare_max=2, common_max=5) == ("r", "c", "c", "f")


def test_every_group_has_members_even_if_none():
    members = group_members(("c", "r", "c"))
    assert list(members) == ["r", "c", "f"]
    assert members["r"].tolist() == [1]
    assert members["c"].tolist() == [0, 2]
    assert members["f"].tolist() == []
    assert members["f"].dtype == np.int64
    with pytest.raises(ValueError, match="'x'"):
        group_members(("x",))


def test_groups_follow_image_counts_and_the_stats_own_limits():
    stats = stats_of((1, 20, 300), (900, 900, 900))
    assert stats.frequency_groups == ("r", "c", "f")
    assert replace(stats, rare_max=20, common_max=400).frequency_groups == ("r", "r", "c")


def test_the_real_lvis_v1_table_gives_its_own_groups(shared_data):
    categories = json.loads((shared_data / "lvis/lvis_v1_train_cat_info.json").read_text())
    groups = frequency_groups([category["image_count"] for category in categories])
    assert groups == tuple(category["frequency"] for category in categories)
    assert [len(m) for m in group_members(groups).values()] == [337, 461, 405]


def test_counts_are_clamped_to_one_and_the_empty_class_is_named():
    stats = stats_of((0, 20, 300), (0, 40, 900))
    assert stats.zero_count_classes == ("cat",)
    np.testing.assert_array_equal(stats.counts(), [1.0, 20.0, 300.0])
    np.testing.assert_array_equal(stats.counts("instance"), [1.0, 40.0, 900.0])
    assert stats.counts().dtype == np.float64
    assert stats.image_counts[0] == 0
    with pytest.raises(ValueError, match="'pixel'"):
        stats.counts("pixel")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"class_names": ("cat", "dog")}, "one entry for each class"),
        ({"class_names": ("cat", "dog", "cat")}, r"class_names.*'cat'"),
        ({"image_counts": (2, 20, 300), "instance_counts": (1, 20, 300)}, "cat: 2 images, 1 inst"),
        ({"image_counts": (-1, 20, 300)}, "cat: -1 images"),
        ({"num_images": 299}, r"at least the largest.*300.*299"),
        ({"source": "guess"}, "'guess'"),
        ({"rare_max": 100}, "rare_max < common_max"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        stats_of(**changes)


def test_stats_survive_json_and_a_weights_only_checkpoint():
    stats = stats_of((0, 20, 300), (0, 40, 900), rare_max=5, common_max=50)
    assert ClassStats.from_dict(json.loads(json.dumps(stats.to_dict()))) == stats
    file = io.BytesIO()
    torch.save(stats.to_dict(), file)
    file.seek(0)
    assert ClassStats.from_dict(torch.load(file, weights_only=True)) == stats


def test_a_foreign_dict_is_refused_by_its_fields():
    with pytest.raises(ValueError, match=r"missing.*image_counts.*unknown fields \['freq'\]"):
        ClassStats.from_dict({"freq": [1]})


def test_merging_adds_counts_and_images():
    merged = merge_class_stats([stats_of((1, 2, 3)), stats_of((10, 0, 5), (11, 0, 50), name="b")])
    assert merged.image_counts == (11, 2, 8)
    assert merged.instance_counts == (12, 2, 53)
    assert merged.num_images == 3 + 10
    assert merged.name == "zoo+b"


def test_parts_that_declare_the_same_whole_count_once():
    half = stats_of((1, 20, 300), source="categories", num_images=400)
    merged = merge_class_stats([half, replace(half, name="other", num_images=410)])
    assert merged.image_counts == (1, 20, 300)
    assert merged.num_images == 410
    assert merged.source == "categories"
    counted = stats_of((1, 20, 300))
    assert merge_class_stats([counted, counted]).image_counts == (2, 40, 600)


def test_merging_other_classes_is_refused_and_the_first_difference_named():
    with pytest.raises(ValueError, match=r"'zoo' and 'b'.*2: 'yak' / 'emu'"):
        merge_class_stats([stats_of(), stats_of(name="b", class_names=("cat", "dog", "emu"))])
    with pytest.raises(ValueError, match="at least one"):
        merge_class_stats([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_counts": (1.5, 2)}, r"whole numbers, got \[1.5\]"),
        ({"instance_counts": (float("nan"), 3)}, r"whole numbers, got \[nan\]"),
        ({"num_images": True}, r"whole numbers, got \[True\]"),
        ({"class_names": ("a", 3)}, "class_names must be texts"),
    ],
)
def test_what_is_no_count_or_no_name_is_refused(change, message):
    good = {"name": "x", "class_names": ("a", "b"), "num_images": 5, "source": "annotations"}
    good |= {"image_counts": (2, 2), "instance_counts": (2, 3)}
    ClassStats.from_dict(good)
    with pytest.raises(ValueError, match=message):
        ClassStats.from_dict({**good, **change})
