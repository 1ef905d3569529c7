from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from lt_det.data.stats.class_stats import ClassStats
from lt_det.report.ap_plot import save_ap_plot
from lt_det.report.class_weights_plot import save_class_weights_plot
from lt_det.report.prediction_sheet import save_prediction_sheet
from lt_det.report.runs import Run, comparison_table, difference_table, spread

NAMES = ("cat", "dog", "owl")
STATS = ClassStats("set", NAMES, (200, 50, 2), (300, 60, 2), 210, "annotations")


def write_run(folder, ap: float, apr: float | None) -> Run:
    (folder / "inference").mkdir(parents=True)
    summary = {"AP": ap, "APr": apr, "APc": 20.0, "APf": 30.0}
    categories = [
        {"name": name, "group": group, "AP": value}
        for name, group, value in zip(NAMES, "fcr", (30.0, 20.0, apr))
    ]
    for task in ("bbox", "segm"):
        content = {"summary": summary, "categories": categories}
        (folder / "inference" / f"per_category_{task}.json").write_text(json.dumps(content))
    return Run.read(str(folder))


@pytest.fixture
def runs(tmp_path):
    return {
        "base": [write_run(tmp_path / "a", 10.0, 1.0), write_run(tmp_path / "b", 12.0, 2.0)],
        "ours": [write_run(tmp_path / "c", 13.0, 5.0), write_run(tmp_path / "d", 14.0, 7.0)],
    }


def test_spread_is_mean_and_sample_deviation():
    assert spread([10.0]) == "10.0"
    assert spread([10.0, 12.0]) == "11.0 ± 1.4"  # sqrt(((-1)^2 + 1^2) / (2 - 1))
    assert spread([float("nan"), 1.0]) == "–"


def test_table_has_a_row_a_method_and_both_tasks(runs):
    header, _, base, ours = comparison_table(runs).splitlines()
    assert [c.strip() for c in header.split("|")[1:4]] == ["method", "box AP", "box APr"]
    assert "mask APf" in header
    assert [c.strip() for c in base.split("|")[1:4]] == ["base", "11.0 ± 1.4", "1.5 ± 0.7"]
    assert "6.0 ± 1.4" in ours


def test_differences_are_paired_by_seed(runs):
    *_, row = difference_table(runs, baseline="base", task="segm").splitlines()
    cells = [c.strip() for c in row.split("|")[1:-1]]
    # AP: 3 and 2; APr: 4 and 5
    assert cells == ["ours", "2.5 ± 0.7", "4.5 ± 0.7", "0.0 ± 0.0", "0.0 ± 0.0"]


def test_a_run_without_evaluation_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="lt-det evaluate"):
        Run.read(str(tmp_path))


def test_undefined_metrics_are_dashes(tmp_path):
    table = comparison_table({"only": [write_run(tmp_path / "x", 1.0, None)]})
    assert "–" in table


def test_pictures_are_written_whole(tmp_path, runs):
    save_ap_plot(STATS, runs, tmp_path / "ap.png", num_bins=3)
    save_class_weights_plot(STATS, [0.5, 1.0, 1.5], str(tmp_path / "weights.png"))
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "1.png")
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [
            {"id": i + 1, "name": n, "frequency": f} for i, (n, f) in enumerate(zip(NAMES, "fcr"))
        ],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]}],
    }
    detections = [
        {"image_id": 1, "category_id": 3, "bbox": [11, 10, 20, 20], "score": 0.9},
        {"image_id": 1, "category_id": 2, "bbox": [30, 20, 10, 10], "score": 0.1},
    ]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dets.json").write_text(json.dumps(detections))
    save_prediction_sheet(
        tmp_path / "gt.json", tmp_path, {"ours": tmp_path / "dets.json"}, tmp_path / "sheet.png"
    )
    for name in ("ap.png", "weights.png", "sheet.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 10
    assert not list(tmp_path.glob("*.partial*"))


def test_methods_and_names_that_look_like_formulas_are_drawn(tmp_path, runs):
    name = r"$\frac$"
    save_ap_plot(STATS, {name: runs["base"]}, tmp_path / "ap.png", num_bins=2)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.9}
    truth = {
        "images": [{"id": 1, "file_name": "image.png"}],
        "annotations": [box],
        "categories": [{"id": 1, "name": name}],
    }
    for file, content in (("truth", truth), ("found", [box])):
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    save_prediction_sheet(
        tmp_path / "truth.json", tmp_path, {name: tmp_path / "found.json"}, tmp_path / "sheet.png"
    )
    assert Image.open(tmp_path / "ap.png").size
    assert Image.open(tmp_path / "sheet.png").size
    (tmp_path / "image.png").unlink()
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(ValueError, match="image.png is a named pipe"):
        save_prediction_sheet(tmp_path / "truth.json", tmp_path, {}, tmp_path / "sheet.png")
