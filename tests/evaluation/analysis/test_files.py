"""Files of an analysis, what is read from them, and what they say in words."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from lt_det.engine.prediction.thresholds import read_thresholds
from lt_det.evaluation.analysis.comparison import NO_DIFFERENCE, compare_runs
from lt_det.evaluation.analysis.confusion import Confusion
from lt_det.evaluation.analysis.files import GROUP_COLUMNS, analysis_table, write_analysis
from lt_det.evaluation.analysis.options import AnalysisOptions, options_of_mode
from lt_det.evaluation.analysis.reasons import reason
from lt_det.evaluation.analysis.saved_matches import SavedMatches
from lt_det.evaluation.analysis.suspicions import suspicions
from tests.evaluation.analysis.test_analyse import analysed, random_set


def written(folder, content, rows, **options):
    analysis, _ = analysed(content, rows, **options)
    write_analysis(folder, analysis, dataset="a set")
    return analysis


def test_the_files_hold_the_analysis(tmp_path):
    content, rows = random_set(3)
    content["categories"][1]["name"] = "=1+1"
    analysis = written(tmp_path, content, rows, resamples=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "analysis_bbox.json",
        "analysis_classes_bbox.csv",
        "analysis_confusion_bbox.csv",
        "analysis_groups_bbox.csv",
        "matches_bbox.npz",
        "thresholds_bbox.json",
    ]
    found = json.loads((tmp_path / "analysis_bbox.json").read_text())
    assert found["dataset"] == "a set"
    assert found["groups"]["all"]["AP"] == analysis.groups["all"]["AP"]
    assert found["groups"]["c"]["AP"] is None  # nothing to average
    assert found["settings"]["resamples"] == 20
    assert found["settings"]["iou_threshold"] == 0.5
    with open(tmp_path / "analysis_groups_bbox.csv", newline="") as file:
        groups = list(csv.DictReader(file))
    assert tuple(groups[0]) == GROUP_COLUMNS
    assert [row["group"] for row in groups] == ["all", "r", "c", "f"]
    assert float(groups[0]["AP_low"]) == analysis.groups["all"]["AP_interval"][0]
    assert groups[2]["AP"] == ""
    assert int(groups[1]["duplicate"]) == analysis.groups["r"]["errors"]["duplicate"]["count"]
    with open(tmp_path / "analysis_classes_bbox.csv", newline="") as file:
        classes = list(csv.DictReader(file))
    assert classes[1]["name"] == "'=1+1"
    assert [row["why"] for row in classes] == [row["why"] for row in analysis.classes]
    names = [row["name"] for row in analysis.classes]
    thresholds = read_thresholds(tmp_path / "thresholds_bbox.json", names, default=0.9)
    expected = [0.9 if row["threshold"] is None else row["threshold"] for row in analysis.classes]
    assert thresholds.tolist() == expected
    assert any(row["threshold"] is None for row in analysis.classes)
    assert "AP-Pool" in analysis_table(analysis)


def test_saved_matches_come_back(tmp_path):
    content, rows = random_set(1, crowds=True)
    analysis = written(tmp_path, content, rows)
    saved = SavedMatches.read(tmp_path / "matches_bbox.npz")
    for name, column in vars(analysis.matches).items():
        np.testing.assert_array_equal(getattr(saved.matches, name), column)
    assert len(saved.objects.images) == analysis.counts["objects"]
    (tmp_path / "other.npz").write_bytes(b"no such file")
    with pytest.raises(ValueError, match=r"other.npz holds no matches"):
        SavedMatches.read(tmp_path / "other.npz")


def test_a_run_beside_a_worse_one(tmp_path):
    content, rows = random_set(2)
    worse = [(i, k, s, [b[0] + 6, *b[1:]]) for i, k, s, b in rows]
    a = written(tmp_path / "a" / "inference", content, worse)
    b = written(tmp_path / "b" / "inference", content, rows)
    found = compare_runs(tmp_path / "a", tmp_path / "b", resamples=200)
    by_name = {(row["group"], row["metric"]): row for row in found.rows}
    row = by_name["all", "AP"]
    difference = b.groups["all"]["AP"] - a.groups["all"]["AP"]
    assert row["difference"] == pytest.approx(difference, abs=1e-9)
    assert row["low"] < difference < row["high"]
    assert row["low"] > 0
    assert row["verdict"] == "b is higher"
    assert by_name["c", "AP"]["verdict"] == "undefined"
    back = compare_runs(tmp_path / "b", tmp_path / "a", resamples=200).rows[0]
    assert back["verdict"] == "b is lower"
    assert back["difference"] == pytest.approx(-difference, abs=1e-9)
    # Paired: narrower than the interval of either run alone.
    alone, _ = analysed(content, rows, resamples=200)
    low, high = alone.groups["all"]["AP_interval"]
    same = compare_runs(tmp_path / "b", tmp_path / "b", resamples=50).rows[0]
    assert (same["low"], same["high"], same["verdict"]) == (0.0, 0.0, NO_DIFFERENCE)
    assert high - low > 0
    found.write(tmp_path / "c")
    content = json.loads((tmp_path / "c" / "comparison_bbox.json").read_text())
    assert content["rows"][0]["verdict"] == "b is higher"
    assert len(content["classes"]) == 7
    assert (tmp_path / "c" / "comparison_bbox.csv").read_text().count("\n") == 1 + len(found.rows)


def test_runs_that_differ_by_luck(tmp_path):
    content, rows = random_set(2)
    rng = np.random.default_rng(0)
    for name in "ab":
        moved = [(i, k, float(rng.random()), b) for i, k, _, b in rows]
        written(tmp_path / name, content, moved)
    row = compare_runs(tmp_path / "a", tmp_path / "b", resamples=200).rows[0]
    assert row["low"] < 0 < row["high"]
    assert row["verdict"] == NO_DIFFERENCE


def test_runs_that_cannot_be_compared(tmp_path):
    content, rows = random_set(2)
    written(tmp_path / "a", content, rows)
    written(tmp_path / "b", {**content, "annotations": content["annotations"][1:]}, rows)
    with pytest.raises(ValueError, match="not of the same data set: other images of objects"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    first, *others = content["annotations"]
    x, *box = first["bbox"]
    written(
        tmp_path / "b",
        {**content, "annotations": [{**first, "bbox": [x + 1, *box]}, *others]},
        rows,
    )
    with pytest.raises(ValueError, match="same images with other boxes or lists of objects"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    kept = SavedMatches.read(tmp_path / "a" / "matches_bbox.npz")
    dataclasses.replace(kept, max_dets=15).write(tmp_path / "b" / "matches_bbox.npz")
    with pytest.raises(ValueError, match="counts 12 detections an image, .* 15: evaluate both"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    dataclasses.replace(kept, truth="").write(tmp_path / "b" / "matches_bbox.npz")
    compare_runs(tmp_path / "a", tmp_path / "b", resamples=1)  # an older file
    with pytest.raises(FileNotFoundError, match=r"has no matches_segm.npz: evaluate"):
        compare_runs(tmp_path / "a", tmp_path / "b", iou_type="segm")
    with pytest.raises(ValueError, match="resamples: expected at least 1, got 0"):
        compare_runs(tmp_path / "a", tmp_path / "a", resamples=0)
    for name in ("x", "y"):
        written(tmp_path / "several" / "inference" / name, content, rows)
    with pytest.raises(ValueError, match="several data sets, give the folder of one"):
        compare_runs(tmp_path / "several", tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"objects": 0}, "undefined: this set has no object of it"),
        ({"objects": 0, "to_ignore": 2}, "undefined: its 2 objects in this set are all to be"),
        ({"detections": 0, "judged": 0}, "never detected"),
        ({"judged": 0}, "detected 5 times, but only in images that say nothing about it"),
        ({}, "detected 3 times in images that say something about it, but its objects are over"),
        ({"taken_for": "cat"}, "most of its objects are first detected as 'cat'"),
        ({"found": 1}, ""),
    ],
)
def test_why_ap_is_zero_or_undefined(change, expected):
    case = {"objects": 4, "to_ignore": 0, "detections": 5, "judged": 3, "found": 0}
    text = reason(**{**case, "best_overlap": 0.312, "taken_for": "", **change})
    assert expected in text
    assert bool(text) == bool(expected)


def test_classes_in_another_order_are_noted():
    content, rows = random_set(0, federated=False)
    analysis, _ = analysed(content, rows)
    assert analysis.notes == []
    turned, _ = analysed(content, [(i, k % 7 + 1, s, b) for i, k, s, b in rows])
    assert any("are the classes of the model and the json" in note for note in turned.notes)


def test_rare_classes_far_above_frequent_ones_are_noted():
    nothing = np.zeros(0, dtype=np.int64)
    confusion = Confusion(nothing, nothing, nothing, nothing, np.zeros(3, dtype=np.int64))
    for rare, frequent, noted in ((30.0, 15.0, True), (20.0, 15.0, False), (None, 3.0, False)):
        groups = {"r": {"AP": rare}, "f": {"AP": frequent}}
        assert bool(suspicions(groups, confusion, ["a", "b", "c"])) == noted


def test_options_are_checked():
    assert options_of_mode("off") is None
    assert options_of_mode("full").boundary
    with pytest.raises(ValueError, match="expected one of .*got 'yes'"):
        options_of_mode("yes")
    with pytest.raises(ValueError, match="confidence must be above 0 and below 1, got 95"):
        AnalysisOptions(confidence=95)
    with pytest.raises(ValueError, match="resamples >= 0"):
        AnalysisOptions(resamples=-1)
