"""Counting a json: checks, declared counts, the cache."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict

import pytest

from lt_det.data.annotations.checks import check_annotations
from lt_det.data.annotations.json_file import read_annotation_json, read_categories
from lt_det.data.stats.json_stats import count_json, declared_frequency_groups
from lt_det.data.stats.stats_cache import class_stats_of_json, read_class_stats
from lt_det.storage.cache_folder import default_cache_folder


def restatement(content, ids):
    """Image and instance counts by json category id, in the order of ``ids``."""
    images, instances = defaultdict(set), Counter()
    for annotation in content["annotations"]:
        images[annotation["category_id"]].add(annotation["image_id"])
        instances[annotation["category_id"]] += 1
    return tuple(len(images[i]) for i in ids), tuple(instances[i] for i in ids)


def declare(content, images, instances):
    """Give the categories (in the order of their ids) counts of their own."""
    for category, a, b in zip(
        sorted(content["categories"], key=lambda c: c["id"]), images, instances
    ):
        category.update(image_count=a, instance_count=b)
    return content


def test_contiguous_order_is_by_id_and_crowds_are_left_out(tiny):
    stats = count_json(tiny, name="tiny")
    assert stats.class_names == ("cat", "yak", "dog")
    assert stats.image_counts == (1, 0, 2)
    assert stats.instance_counts == (1, 0, 3)
    assert stats.num_images == 2
    assert stats.source == "annotations"


def test_the_metadata_id_map_decides_the_order(tiny):
    stats = count_json(tiny, name="tiny", id_map={50: 0, 4: 1, 11: 2})
    assert stats.class_names == ("dog", "cat", "yak")
    assert stats.image_counts == (2, 1, 0)
    with pytest.raises(ValueError, match=r"'tiny'.*only in the json: \[11\].*metadata: \[12\]"):
        count_json(tiny, name="tiny", id_map={50: 0, 4: 1, 12: 2})


def test_polygons_of_two_points_do_not_count_as_detectron2_drops_them(tiny):
    tiny["annotations"][3]["segmentation"] = [[0, 0, 5, 5]]
    assert count_json(tiny, name="tiny").instance_counts == (1, 0, 2)


def test_real_lvis_annotations_are_counted_right(lvis_v0_5):
    content = json.loads(lvis_v0_5.read_text())
    ids = sorted(category["id"] for category in content["categories"])
    stats = count_json(content, name="v0.5", count_source="annotations")
    assert (stats.image_counts, stats.instance_counts) == restatement(content, ids)
    assert stats.num_images == len({a["image_id"] for a in content["annotations"]})
    assert (sum(stats.instance_counts), stats.num_images, stats.num_classes) == (977, 93, 1230)


def test_the_train_groups_of_real_lvis_are_read_from_its_frequency(lvis_v0_5):
    groups = Counter(declared_frequency_groups(read_categories(lvis_v0_5, name="v0.5")))
    assert groups == {"r": 454, "c": 461, "f": 315}


def test_counts_of_a_subset_beside_train_frequencies_give_a_warning(lvis_v0_5, tmp_path, caplog):
    for _ in range(2):  # counted, then from the cache
        caplog.clear()
        class_stats_of_json(lvis_v0_5, name="v0.5", cache_dir=tmp_path)
        assert "'frequency' of 776 of 1230" in caplog.text
        assert "count the training split" in caplog.text


def test_auto_takes_the_declared_counts_of_a_subset(mini_lvis):
    whole = json.loads(mini_lvis.read_text())
    full = count_json(whole, name="mini")
    assert full.source == "annotations"
    kept = {image["id"] for image in whole["images"][:75]}
    part = {
        "categories": whole["categories"],
        "images": [image for image in whole["images"] if image["id"] in kept],
        "annotations": [a for a in whole["annotations"] if a["image_id"] in kept],
    }
    declared = count_json(part, name="half")
    assert declared.source == "categories"
    assert declared.image_counts == full.image_counts
    assert declared.instance_counts == full.instance_counts
    # An estimate from half of the images; the truth is known here.
    assert declared.num_images == pytest.approx(full.num_images, rel=0.2)
    counted = count_json(part, name="half", count_source="annotations")
    expected = counted.num_images * sum(full.image_counts) / sum(counted.image_counts)
    assert declared.num_images == round(expected)
    assert counted.instance_counts != full.instance_counts


def test_auto_counts_a_split_that_is_no_subset(tiny):
    # More cats counted than declared: the declared numbers are of another split.
    stats = count_json(declare(tiny, (0, 50, 60), (0, 50, 60)), name="tiny")
    assert (stats.source, stats.image_counts) == ("annotations", (1, 0, 2))


def test_auto_counts_where_one_category_declares_nothing(tiny):
    del declare(tiny, (5, 5, 5), (9, 9, 9))["categories"][0]["image_count"]
    assert count_json(tiny, name="tiny").source == "annotations"
    with pytest.raises(ValueError, match=r"'tiny'.*'image_count'.*\['dog'\]"):
        count_json(tiny, name="tiny", count_source="categories")


def test_declared_counts_can_be_asked_for_and_bound_the_number_of_images(tiny):
    stats = count_json(
        declare(tiny, (0, 0, 60), (0, 0, 70)), name="tiny", count_source="categories"
    )
    assert (stats.image_counts, stats.instance_counts) == ((0, 0, 60), (0, 0, 70))
    assert stats.num_images == 60  # 2 images * 60 / 3 would be fewer than show a dog


def test_an_unknown_count_source_is_refused(tiny):
    with pytest.raises(ValueError, match="count_source.*'json'"):
        count_json(tiny, name="tiny", count_source="json")


def edit(path, value):
    """A change of one place in the content of a json."""

    def apply(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        content[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            edit(["annotations", 1, "category_id"], 5),
            r"'category_id' of 1.*annotation 2 of image 2: 5",
        ),
        (edit(["annotations", 0, "image_id"], 66), r"'image_id' of 1.*annotation 1 of image 66"),
        (edit(["annotations", 3, "bbox"], [0, 0, -1, 4]), r"'bbox' of 1.*annotation 4 of image 3"),
        (edit(["annotations", 3, "bbox"], [0, 0, 4, float("nan")]), r"'bbox'.*annotation 4.*nan"),
        (edit(["annotations", 3, "bbox"], [float("inf"), 0, 4, 4]), r"'bbox'.*annotation 4.*inf"),
        (edit(["annotations", 3, "bbox"], [1, 2, 3]), r"'bbox'.*annotation 4 of image 3"),
        (edit(["annotations", 3, "bbox"], None), r"'bbox'.*annotation 4 of image 3"),
        (edit(["categories", 1, "name"], "dog"), r"'categories'.*'name'.*\['dog'\]"),
        (edit(["categories", 1, "id"], 50), r"'categories'.*'id'.*\[50\]"),
        (
            edit(["categories", 1, "id"], "4"),
            r"'categories'.*'id' must be a whole number.*first #1: 4",
        ),
        (edit(["categories"], []), r"'categories'.*at least one"),
        (edit(["images", 1, "id"], 9), r"'id' of 'images'.*\[9\]"),
        (edit(["images"], []), r"empty image list"),
        (lambda content: content.pop("annotations"), r"\['annotations'\] missing"),
    ],
)
def test_each_kind_of_bad_annotation_is_named(tiny, change, text):
    check_annotations(tiny, name="tiny")
    change(tiny)
    with pytest.raises(ValueError, match=f"(?s)data set 'tiny'.*{text}"):
        check_annotations(tiny, name="tiny")


def test_many_offenders_are_counted_and_the_first_five_named(tiny):
    for annotation in tiny["annotations"] * 1:
        annotation["category_id"] = 99
    tiny["annotations"] += [{**tiny["annotations"][0], "id": 10 + i} for i in range(20)]
    with pytest.raises(ValueError, match="of 25 annotations") as caught:
        check_annotations(tiny, name="tiny")
    assert str(caught.value).count("of image") == 5


def test_classes_must_be_those_of_the_metadata(tiny):
    with pytest.raises(ValueError, match=r"'tiny'.*3 classes.*metadata 2.*\['yak'\]"):
        count_json(tiny, name="tiny", class_names=["cat", "dog"])
    with pytest.raises(ValueError, match=r"'tiny'.*'name' of 2.*0: 'cat' in the json, 'dog' in"):
        count_json(tiny, name="tiny", class_names=["dog", "yak", "cat"])


def test_a_synonym_is_a_good_class_name_and_is_kept(tiny):
    tiny["categories"][0]["synonyms"] = ["hound", "dog"]
    stats = count_json(tiny, name="tiny", class_names=["cat", "yak", "hound"])
    assert stats.class_names == ("cat", "yak", "hound")


def test_a_missing_file_names_its_path_and_the_environment_variable(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.json.*DETECTRON2_DATASETS"):
        class_stats_of_json(tmp_path / "no.json", name="tiny", cache_dir=tmp_path)


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "set.json")
    with pytest.raises(ValueError, match="set.json is a named pipe"):
        class_stats_of_json(tmp_path / "set.json", name="tiny", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("text", ['{"images": [', "[1, 2]", ""])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"'tiny'.*set\.json"):
        class_stats_of_json(path, name="tiny", cache_dir=tmp_path / "cache")


def test_reading_without_masks_counts_the_same(mini_lvis, tiny, write):
    tiny["annotations"][3]["segmentation"] = [[0, 0, 5, 5]]
    for path in (mini_lvis, write(tiny)):
        light = read_annotation_json(path, name="set", keep_segmentations=False)
        assert not any(any(a["segmentation"]) for a in light["annotations"])
        assert count_json(light, name="set") == count_json(json.loads(path.read_text()), name="set")


def test_categories_are_found_wherever_they_stand(tiny, write, mini_lvis):
    expected = tiny["categories"]
    decoys = {"info": {"note": 'not "categories": [here]', "categories": ["a", "b"]}}
    texts = {"before": ["categories"], **decoys, **tiny}
    first = {"categories": expected, **{k: v for k, v in tiny.items() if k != "categories"}}
    for content in (tiny, first, texts, {**tiny, "x": ["categories"]}):
        assert read_categories(write(content), name="tiny") == expected
    real = json.loads(mini_lvis.read_text())["categories"]
    assert read_categories(mini_lvis, name="mini") == real
    with pytest.raises(ValueError, match="no list 'categories'"):
        read_categories(write({"images": []}), name="tiny")


def test_categories_longer_than_one_reading_step_are_read_without_the_rest(write, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the whole file was read")

    monkeypatch.setattr("lt_det.data.annotations.json_file.read_annotation_json", refuse)
    categories = [{"id": i, "name": f"é{i}", "def": "ü" * 200} for i in range(6000)]
    path = write({})
    path.write_text(json.dumps({"images": [], "categories": categories}, ensure_ascii=False))
    assert path.stat().st_size > 2 * 2**20
    assert read_categories(path, name="big") == categories


def test_a_second_call_reads_the_cache_and_not_the_json(tiny, write, tmp_path, monkeypatch):
    path, cache = write(tiny), tmp_path / "cache"
    first = class_stats_of_json(path, name="tiny", cache_dir=cache)
    (file,) = cache.iterdir()
    assert read_class_stats(file) == first

    def refuse(*_, **__):
        raise AssertionError("the json was read although its counts are cached")

    monkeypatch.setattr("lt_det.data.stats.stats_cache.read_annotation_json", refuse)
    assert class_stats_of_json(path, name="other", cache_dir=cache).image_counts == (1, 0, 2)
    assert class_stats_of_json(path, name="other", cache_dir=cache).name == "other"


def test_changed_content_and_changed_options_are_counted_again(tiny, write, tmp_path):
    path, cache = write(declare(tiny, (5, 5, 5), (9, 9, 9))), tmp_path / "cache"
    assert class_stats_of_json(path, name="t", cache_dir=cache).image_counts == (5, 5, 5)
    counted = class_stats_of_json(path, name="t", cache_dir=cache, count_source="annotations")
    assert counted.image_counts == (1, 0, 2)
    order = {50: 0, 4: 1, 11: 2}
    mapped = class_stats_of_json(
        path, name="t", cache_dir=cache, count_source="annotations", id_map=order
    )
    assert mapped.image_counts == (2, 1, 0)
    del tiny["annotations"][3]
    path = write(tiny)
    changed = class_stats_of_json(path, name="t", cache_dir=cache, count_source="annotations")
    assert changed.image_counts == (1, 0, 1)


def test_changed_counts_in_the_cache_are_noticed(tiny, write, tmp_path, caplog):
    path, cache = write(tiny), tmp_path / "cache"
    expected = class_stats_of_json(path, name="tiny", cache_dir=cache)
    (file,) = cache.iterdir()
    whole = file.read_text()
    values = json.loads(whole)
    changes = [
        {"image_counts": [1, 0, 3]},
        {"image_counts": [1.5, 0, 2]},
        {"instance_counts": [1, 0, float("nan")]},
        {"num_images": True},
        {"class_names": ["cat", "yak", "cow"]},
        {"class_names": ["cat", "yak", 3]},
    ]
    for change in changes:
        # With and without a checksum that fits.
        for written in ({**values, **change}, {**values, **change, "checksum": None}):
            if written["checksum"] is None:
                del written["checksum"]
                if "cow" in written["class_names"] or 3 in written["image_counts"]:
                    continue  # statistics as good as any
            caplog.clear()
            file.write_text(json.dumps(written))
            assert class_stats_of_json(path, name="tiny", cache_dir=cache) == expected
            assert "Ignoring the broken cache file" in caplog.text
            assert file.read_text() == whole
    # A good file under the name of another's.
    other = cache / file.name.replace("class_stats_", "class_stats_0")
    file.rename(other)
    with pytest.raises(ValueError, match="checksum"):
        read_class_stats(other)


@pytest.mark.parametrize("rubbish", ["", '{"name": 1}', "[]", '{"name": "x"', "\x00"])
def test_a_broken_cache_file_is_replaced_with_a_warning(tiny, write, tmp_path, caplog, rubbish):
    path, cache = write(tiny), tmp_path / "cache"
    expected = class_stats_of_json(path, name="tiny", cache_dir=cache)
    (file,) = cache.iterdir()
    file.write_text(rubbish)
    with caplog.at_level(logging.WARNING):
        assert class_stats_of_json(path, name="tiny", cache_dir=cache) == expected
    assert str(file) in caplog.text
    assert read_class_stats(file) == expected
    assert list(cache.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tiny, write, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    stats = class_stats_of_json(write(tiny), name="tiny", cache_dir=blocked)
    assert stats.image_counts == (1, 0, 2)
    assert "Nothing could be cached" in caplog.text


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LT_DET_CACHE", raising=False)
    monkeypatch.delenv("FVCORE_CACHE", raising=False)
    assert default_cache_folder() == tmp_path / "home/.cache/lt_det"
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "fv"))
    assert default_cache_folder() == tmp_path / "fv/lt_det"
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "own"))
    assert default_cache_folder() == tmp_path / "own"
