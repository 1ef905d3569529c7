"""Counts that categories declare: taken for a part only where they can be those of a whole."""

from __future__ import annotations

import copy
import json

import pytest

from lt_det.data.stats.declared_counts import declared_counts
from lt_det.data.stats.json_stats import count_json
from lt_det.data.stats.stats_cache import class_stats_of_json
from lt_det.data.warn_once import warn_once


def declare(content, *counts):
    """Give the categories, in the order of their ids, numbers of images and instances."""
    for category, (images, instances) in zip(
        sorted(content["categories"], key=lambda c: c["id"]), counts
    ):
        category.update(image_count=images, instance_count=instances)
    return content


def verdict(content):
    found = declared_counts(content["categories"], content["annotations"])
    return None if found is None else found.verdict


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (((1, 1), (0, 0), (2, 3)), "same"),
        (((1, 1), (0, 0), (3, 4)), "more"),
        (((9, 20), (4, 4), (7, 8)), "more"),
        (((1, 1), (0, 0), (3, 3)), "other"),  # a further image shows a further dog
        (((1, 2), (0, 0), (2, 3)), "other"),  # a further cat, and no image of it
        (((5, 4), (0, 0), (2, 3)), "other"),  # fewer cats than images of them
        (((5, 5), (0, 0), (1, 1)), "other"),  # more are here
        (((0, 0), (0, 0), (0, 0)), None),  # an exporter's default
    ],
)
def test_what_a_whole_may_have(tiny, counts, expected):
    assert verdict(declare(tiny, *counts)) == expected
    stats = count_json(tiny, name="tiny")
    assert stats.source == ("categories" if expected == "more" else "annotations")
    if expected != "more":
        assert (stats.image_counts, stats.instance_counts) == ((1, 0, 2), (1, 0, 3))


def test_crowds_may_be_in_the_declared_counts_or_not(tiny):
    tiny["annotations"].append({**tiny["annotations"][0], "id": 99, "iscrowd": 1})
    assert verdict(declare(tiny, (1, 1), (0, 0), (2, 3))) == "same"
    with_crowds = copy.deepcopy(tiny)
    for category in with_crowds["categories"]:
        own = [a for a in tiny["annotations"] if a["category_id"] == category["id"]]
        category.update(image_count=len({a["image_id"] for a in own}), instance_count=len(own))
    assert with_crowds["categories"] != tiny["categories"]
    assert verdict(with_crowds) == "same"
    assert count_json(with_crowds, name="tiny").instance_counts == (1, 0, 3)


@pytest.mark.parametrize(
    ("counts", "source", "says"),
    [
        (
            ((5, 6), (5, 5), (5, 6)),
            "auto",
            "say more than the json holds, in 3 of 3.*cat (5 images",
        ),
        (((5, 6), (5, 5), (1, 1)), "auto", "neither.*in 1 of 3.*dog (1 images.*is counted"),
        (((5, 6), (5, 5), (1, 1)), "categories", "neither.*as count_source 'categories' asks"),
        (((5, 6), (5, 5), (5, 6)), "annotations", ""),
        (((1, 1), (0, 0), (2, 3)), "auto", ""),
    ],
)
def test_a_warning_comes_at_every_start(tiny, write, tmp_path, caplog, counts, source, says):
    path = write(declare(tiny, *counts))
    for _ in range(2):  # counted, then from the cache
        warn_once.cache_clear()
        caplog.clear()
        class_stats_of_json(path, name="tiny", count_source=source, cache_dir=tmp_path / "cache")
        text = caplog.text.replace("\n", " ")
        if not says:
            assert "image_count" not in text
        for part in filter(None, says.split(".*")):
            assert part in text


def test_the_counts_of_real_lvis_are_those_of_its_annotations(mini_lvis):
    assert verdict(json.loads(mini_lvis.read_text())) == "same"
