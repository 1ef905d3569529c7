from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from lt_det.evaluation.results import (
    CATEGORY_COLUMNS,
    write_json,
    write_json_records,
    write_per_category,
)
from lt_det.storage.atomic_write import atomic_file


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"AP": 1.0})

    def failing():
        yield {"a": 1}
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_json_records(path, failing(), count=2)
    assert json.loads(path.read_text()) == {"AP": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_the_target_is_untouched_until_the_end(tmp_path):
    path = tmp_path / "new" / "results.txt"
    with atomic_file(path) as file:
        file.write("half")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "half"


def test_undefined_numbers_are_null(tmp_path):
    write_json(tmp_path / "a.json", {"AP": float("nan"), "rows": [{"x": (float("inf"), 2)}]})
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text
    assert json.loads(text) == {"AP": None, "rows": [{"x": [None, 2]}]}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_records_make_one_list(tmp_path, count):
    records = [{"id": k} for k in range(count)]
    write_json_records(tmp_path / "a.json", iter(records), count=count)
    assert json.loads((tmp_path / "a.json").read_text()) == records


def test_formulas_in_names_are_no_formulas_in_the_csv(tmp_path):
    row = dict.fromkeys(CATEGORY_COLUMNS, -1.5)
    rows = [{**row, "name": "=1+1"}, {**row, "name": "-5"}, {**row, "name": "cat", "AP": None}]
    write_per_category(tmp_path, iou_type="segm", summary={}, categories=rows, about={})
    with open(tmp_path / "per_category_segm.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [one["name"] for one in found] == ["'=1+1", "-5", "cat"]
    assert [one["AP"] for one in found] == ["-1.5", "-1.5", ""]
    content = json.loads((tmp_path / "per_category_segm.json").read_text())
    assert content["categories"][0]["name"] == "=1+1"


def test_a_json_has_a_line_for_each_row(tmp_path):
    rows = [{"name": 'a "b"', "AP": float("nan")}, {"name": "é", "AP": np.float64(0.5)}]
    value = {
        "rows": rows,
        "nested": {"list": [1, float("inf")], "none": [], "empty": {}},
        "x": (1,),
    }
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text()
    expected = {
        "rows": [{"name": 'a "b"', "AP": None}, {"name": "é", "AP": 0.5}],
        "nested": {"list": [1, None], "none": [], "empty": {}},
        "x": [1],
    }
    assert json.loads(text) == expected
    assert sum('"name"' in line for line in text.splitlines()) == 2


@pytest.mark.parametrize("value", [[], {}, 1.5, None, [[1, 2], []], {1: 2}, [{"a": 1}], "text"])
def test_a_json_of_anything_comes_back(tmp_path, value):
    write_json(tmp_path / "file.json", value)
    expected = json.loads(json.dumps(value))
    assert json.loads((tmp_path / "file.json").read_text()) == expected
