"""Categories: the root that others name as their parent, found without counting for each name."""

from __future__ import annotations

import json

from lt_det.data.inspection.categories import root_category
from lt_det.data.inspection.data_sets import inspect_data_sets
from tests.data.inspection.test_data_sets import good


class Counted(list):
    """A list that counts how often it is gone through."""

    rounds = 0

    def __iter__(self):
        self.rounds += 1
        return super().__iter__()


def content(num_classes: int, parent: str = "") -> dict:
    categories = [{"id": k, "name": f"c{k}", "supercategory": parent} for k in range(num_classes)]
    return {"categories": categories, "annotations": Counted([{"category_id": 1}])}


def test_many_classes_without_parents_cost_no_look_at_the_annotations():
    many = content(500)
    assert root_category([many]) is None
    assert many["annotations"].rounds == 0


def test_a_root_without_objects_is_found_and_one_with_objects_is_none():
    found = content(3, "things")
    found["categories"].append({"id": 9, "name": "things", "supercategory": "none"})
    assert root_category([found]) == "things"
    assert root_category([found, content(3)]) is None
    found["annotations"].append({"category_id": "9"})
    assert root_category([found]) is None


def with_root(name: str = "animals") -> dict:
    found = good()
    for category in found["categories"]:
        category["supercategory"] = name
    found["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})
    return found


def inspect(tmp_path, **splits):
    for split, content in splits.items():
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    found = inspect_data_sets([tmp_path / "train.json"], [tmp_path / "val.json"])
    return found, {(one.kind, one.file.rpartition("/")[2]): one for one in found.findings}


def test_a_root_that_one_split_lacks_is_named_and_no_class(tmp_path):
    lacking = with_root()
    root = lacking["categories"].pop(0)
    for splits in ((with_root(), lacking), (lacking, with_root())):
        found, findings = inspect(tmp_path, train=splits[0], val=splits[1])
        (file,) = {file for kind, file in findings if kind == "root-category"}
        assert file == ("train.json" if splits[0] is not lacking else "val.json")
        assert not {kind for kind, _ in findings} & {"class-not-in-val", "class-ids-differ"}
        assert [len(f.mended["categories"]) for f in found.files] == [2, 2]
    # An object of it makes it a class, in all splits.
    used = with_root()
    used["annotations"][0]["category_id"] = root["id"]
    _, findings = inspect(tmp_path, train=with_root(), val=used)
    assert ("root-category", "train.json") not in findings


def test_a_class_may_have_the_name_of_its_parent(tmp_path):
    content = with_root("cat")
    found, findings = inspect(tmp_path, train=content, val=content)
    assert findings["repeated-category-name", "train.json"].mendable
    assert ("root-category", "train.json") in findings
    assert [c["id"] for c in found.files[0].mended["categories"]] == [1, 2]
    assert not [one for one in found.findings_after_mending() if one.harm == "error"]
    content["categories"][2]["name"] = "cat"
    assert not inspect(tmp_path, train=content, val=content)[1][
        "repeated-category-name", "train.json"
    ].mendable


def test_an_unused_class_of_one_split_is_named(tmp_path):
    more = good()
    more["categories"].append({"id": 9, "name": "extra"})
    found = inspect(tmp_path, train=good(), val=more)[1][("class-ids-differ", "val.json")]
    assert found.first == (f"{len(good()['categories'])} classes there, "
                           f"{len(more['categories'])} here (only here: 'extra')",)  # fmt: skip


def test_a_dict_that_is_no_mask_is_not_called_run_length_encoded(tmp_path):
    via = good()
    for one in via["annotations"]:
        one["segmentation"] = {"x": [1, 9, 9], "y": [1, 1, 9]}
    kinds = {kind for kind, _ in inspect(tmp_path, train=via, val=good())[1]}
    assert "mask-malformed" in kinds
    assert "masks-encoded" not in kinds
