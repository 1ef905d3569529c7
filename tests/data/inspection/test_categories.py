"""Categories: the root that others name as their parent, found without counting for each name."""

from __future__ import annotations

from lt_det.data.inspection.categories import root_category


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
