"""Classification data sets in Detectron2's catalogs."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.datasets import class_names_of, class_stats_of
from lt_det.data.images.datasets import (
    HELD_OUT,
    register_image_dataset,
    register_images_from_config,
    take_classes,
)
from lt_det.data.sampling.samplers import classes_of_images

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


@pytest.fixture
def name(request):
    name = f"digits_{request.node.name}"
    yield name
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_counts_are_those_of_the_records(name):
    register_image_dataset(name, "digits", "", "train", imbalance_factor=10.0)
    records = DatasetCatalog.get(name)
    counts = np.bincount([r["category_id"] for r in records])
    stats = class_stats_of(name, rare_max=19, common_max=100)
    assert stats.image_counts == stats.instance_counts == tuple(counts.tolist())
    assert stats.num_images == len(records) == sum(counts)
    assert stats.class_names == tuple("0123456789")
    assert stats.frequency_groups[0] == "f"
    assert stats.frequency_groups[-1] == "r"
    assert classes_of_images(records[:3]) == [[r["category_id"]] for r in records[:3]]


def test_class_names_are_known_before_the_records(name):
    register_image_dataset(name, "digits", "", "test")
    assert MetadataCatalog.get(name).get("thing_classes") is None
    assert class_names_of(name) == list("0123456789")
    assert MetadataCatalog.get(name).evaluator_type == "classification"


def test_registering_twice(name):
    register_image_dataset(name, "digits", "", "train", imbalance_factor=10.0)
    register_image_dataset(name, "digits", "", "train", imbalance_factor=10.0)
    with pytest.raises(ValueError, match="is taken by"):
        register_image_dataset(name, "digits", "", "train", imbalance_factor=20.0)


def test_labels_become_those_of_the_training_set(name):
    register_image_dataset(name, "digits", "", "test")
    before = [record["category_id"] for record in DatasetCatalog.get(name)]
    order = [*"9876543210", "ten"]
    take_classes(name, order)
    records = DatasetCatalog.get(name)
    assert [record["category_id"] for record in records] == [9 - label for label in before]
    assert MetadataCatalog.get(name).thing_classes == order
    take_classes(name, order)
    assert DatasetCatalog.get(name) == records
    with pytest.raises(ValueError, match=r"images of 1 classes that .* has not, first \['0'\]"):
        take_classes(name, order[:9] + order[10:])


def test_only_training_sets_become_long_tailed(name):
    entries = [[name, "digits", "", "train"]]
    register_images_from_config(entries, long_tailed=["another"], imbalance_factor=10.0)
    assert len(DatasetCatalog.get(name)) == 1201


def test_held_out_images_are_those_that_are_not_trained_on(name):
    entries = [[name, "digits", "", "train"]]
    options = {"long_tailed": [name], "imbalance_factor": 10.0}
    register_images_from_config(entries, held_out=0.2, **options)
    kept, held = (DatasetCatalog.get(n) for n in (name, f"{name}{HELD_OUT}"))
    whole = f"{name}_whole"
    register_image_dataset(whole, "digits", "", "train", imbalance_factor=10.0)
    ids = [{record["image_id"] for record in records} for records in (kept, held)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {record["image_id"] for record in DatasetCatalog.get(whole)}
    counts = class_stats_of(whole).counts()
    np.testing.assert_allclose(class_stats_of(f"{name}{HELD_OUT}").counts(), counts / 5, atol=0.5)
    np.testing.assert_allclose(class_stats_of(name).counts(), counts * 4 / 5, atol=0.5)
    assert MetadataCatalog.get(f"{name}{HELD_OUT}").evaluator_type == "classification"
    with pytest.raises(ValueError, match="is taken by"):
        register_images_from_config(entries, held_out=0.1, **options)
    for added in (whole, f"{name}{HELD_OUT}"):
        DatasetCatalog.remove(added)
        MetadataCatalog.remove(added)


def test_paths_start_from_the_folder_of_detectron2(name, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_image_dataset(name, "list", "lists/train.txt", "images")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "lists" / "train.txt")):
        DatasetCatalog.get(name)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("x.png 0\n")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "images" / "x.png")):
        DatasetCatalog.get(name)


@pytest.mark.parametrize("entry", [["a"], "name", ["a", "digits", 3], ["a", "b", "c", "d", "e"]])
def test_entries_of_another_form(entry):
    with pytest.raises(ValueError, match=r"entries\[0\] must be \[name, kind"):
        register_images_from_config([entry])


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of .*'cifar10'.* got 'mnist'"):
        register_image_dataset("x", "mnist", "")


def test_a_profile_that_is_not_met_is_warned_of(name, tmp_path, caplog):
    rows = [f"x.png {label}" for label, count in enumerate([10, 20, 1000]) for _ in range(count)]
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("\n".join(rows))
    sets = (name, "list", str(tmp_path / "list.txt"), str(tmp_path))
    register_image_dataset(*sets, imbalance_factor=100.0)
    labels = [r["category_id"] for r in DatasetCatalog.get(name)]
    assert np.bincount(labels).tolist() == [10, 20, 10]
    assert "factor 100 is not met: 2 classes" in caplog.text
    assert "first ['0', '1'] with [10, 20] of [1000, 100]" in caplog.text


def test_digits_meet_their_profile(name, caplog):
    register_image_dataset(name, "digits", "", "train", imbalance_factor=20.0)
    DatasetCatalog.get(name)
    assert "not met" not in caplog.text


def test_seeds_of_subsets_are_not_negative(name):
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        register_image_dataset(name, "digits", "", "train", seed=-1)
