"""Test sets whose ids, order or number of classes are not those of the training set."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from lt_det.data.annotations.class_matching import check_evaluation_json, match_classes
from lt_det.data.annotations.datasets import class_stats_of, register_lvis_format, use_own_classes

TRAIN = ["cat", "yak", "dog"]  # the order of the ids of ``tiny``


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "cache"))


def register(kind: str, name: str, path) -> None:
    if kind == "ours":
        register_lvis_format(name, path)
    else:
        register_coco_instances(name, {}, str(path), "")


def match(name: str, class_names=TRAIN) -> None:
    match_classes(name, class_names, check_evaluation_json(name))


def renumbered(content: dict, ids: dict[str, int], *, order=()) -> dict:
    """The same objects with other category ids by name; categories in another order."""
    content = copy.deepcopy(content)
    old = {c["id"]: c["name"] for c in content["categories"]}
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[old[annotation["category_id"]]]
    names = order or [n for n in old.values() if n in ids]
    content["categories"] = [{"id": ids[n], "name": n} for n in names]
    return content


def names_in_images(name: str, class_names) -> list:
    return sorted(
        (record["image_id"], class_names[annotation["category_id"]])
        for record in DatasetCatalog.get(name)
        for annotation in record["annotations"]
    )


EXPECTED = [(2, "cat"), (2, "dog"), (2, "dog"), (3, "dog"), (7, "cat")]


@pytest.mark.parametrize("kind", ["ours", "coco"])
@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ({"cat": 11, "yak": 4, "dog": 50}, ()),  # two swapped
        ({"dog": 0, "yak": 1, "cat": 2}, ("yak", "cat", "dog")),
        ({"cat": 7, "dog": 9}, ()),  # one lacking
        ({"dog": 1, "cat": 2}, ()),  # and the others swapped
        ({"animals": 0, "dog": 1, "cat": 2}, ("animals", "dog", "cat")),  # a root without objects
    ],
)
def test_classes_are_those_of_the_same_name(tiny, write, catalog, kind, ids, order, caplog):
    register(kind, "val", write(renumbered(tiny, ids, order=order)))
    match("val")
    match("val")  # again, as for a second stage
    metadata = MetadataCatalog.get("val")
    assert list(metadata.thing_classes) == TRAIN
    assert metadata.thing_dataset_id_to_contiguous_id == {
        number: TRAIN.index(n) for n, number in ids.items() if n in TRAIN
    }
    assert names_in_images("val", TRAIN) == EXPECTED
    assert caplog.text.count("matched with those of the training set by name") == 1
    assert "no object of 1 of 3 classes, first ['yak']" in caplog.text


@pytest.mark.parametrize("kind", ["ours", "coco"])
def test_nothing_changes_where_ids_and_order_agree(tiny, write, catalog, kind, caplog):
    tiny["categories"].reverse()  # the order in the file means nothing
    for category in tiny["categories"]:
        category["id"] += 100
    for annotation in tiny["annotations"]:
        annotation["category_id"] += 100
    register(kind, "val", write(tiny))
    function = DatasetCatalog["val"]
    match("val")
    assert DatasetCatalog["val"] is function
    assert names_in_images("val", TRAIN) == EXPECTED
    assert "by name" not in caplog.text


@pytest.mark.parametrize("kind", ["ours", "coco"])
def test_objects_of_a_class_that_was_not_trained_on_are_refused_by_name(tiny, write, catalog, kind):
    register(kind, "val", write(tiny))
    with pytest.raises(ValueError, match=r"'val' has objects of 1 classes.*dog \(3 objects\).*cat"):
        match("val", ["cat", "yak"])
    with pytest.raises(ValueError, match="Cat, Dog, Yak"):
        match("val", ["Cat", "Dog", "Yak"])


def test_a_set_without_json_is_refused_where_classes_differ(catalog):
    DatasetCatalog.register("plain", lambda: [])
    MetadataCatalog.get("plain").thing_classes = ["dog", "cat"]
    match_classes("plain", ["dog", "cat"], check_evaluation_json("plain"))
    with pytest.raises(ValueError, match="class 0 is 'dog' here and 'cat' in the training set"):
        match_classes("plain", ["cat", "dog"], None)


def test_a_matched_set_that_is_trained_on_has_its_own_classes_again(tiny, write, catalog):
    register("ours", "val", write(renumbered(tiny, {"dog": 1, "cat": 2})))
    match("val")
    use_own_classes("val")
    # Before the annotations are read again.
    assert MetadataCatalog.get("val").thing_classes == ["dog", "cat"]
    match("val")
    stats = class_stats_of("val")
    assert stats.class_names == ("dog", "cat")
    assert stats.image_counts == (2, 1)
    assert names_in_images("val", ["dog", "cat"]) == EXPECTED


def test_a_file_changed_after_matching_is_an_error(tiny, write, catalog):
    content = renumbered(tiny, {"dog": 1, "cat": 2})
    register("ours", "val", write(content))
    match("val")
    content["categories"][0]["name"] = "wolf"
    write(content)
    with pytest.raises(ValueError, match="'val'.*changed"):
        DatasetCatalog.get("val")


def test_bad_ground_truth_is_found_when_it_is_matched(tiny, write, catalog):
    tiny["annotations"][1]["bbox"] = [0, 0, -1, 4]
    register("ours", "val", write(tiny))
    with pytest.raises(ValueError, match="'val'.*'bbox' of 1"):
        check_evaluation_json("val")
