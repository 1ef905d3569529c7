"""lt-det evaluate --analysis, then lt-det compare."""

from __future__ import annotations

import json

import pytest

from lt_det.cli.commands import main
from tests.engine.tiny import write_tiny_lvis


@pytest.fixture
def runs(tmp_path):
    """Two runs on one set: one finds all, the other puts all boxes aside."""
    json_file, _ = write_tiny_lvis(tmp_path)
    with open(json_file) as file:
        annotations = json.load(file)["annotations"]
    for name, aside in (("good", 0), ("bad", 1000)):
        detections = [
            {
                "image_id": a["image_id"],
                "category_id": a["category_id"],
                "bbox": [a["bbox"][0] + aside, *a["bbox"][1:]],
                "score": 0.9,
            }
            for a in annotations
        ]
        (tmp_path / "d.json").write_text(json.dumps(detections))
        words = ["evaluate", json_file, str(tmp_path / "d.json"), "--train-json", json_file]
        assert main([*words, "--analysis", "on", "--output", str(tmp_path / name)]) == 0
    return tmp_path


def test_prints_and_writes_what_differs(runs, capsys):
    bad, good = str(runs / "bad"), str(runs / "good")
    capsys.readouterr()
    words = ["compare", bad, good, "--resamples", "20", "--output", str(runs / "c")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("| all ") and " AP " in line]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *("all", "AP", "0.00", "100.00", "100.00", "100.00 to 100.00", "b is higher"),
    ]
    assert any(line.startswith("| rare ") for line in lines)
    assert json.loads((runs / "c" / "comparison_bbox.json").read_text())["resamples"] == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "has no matches_bbox.npz: evaluate the run with its analysis on"),
        (["good", "--confidence", "95"], "confidence: expected above 0 and below 1, got 95"),
        (["good", "--iou-type", "segm"], "has no matches_segm.npz"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(runs, words, message, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    capsys.readouterr()
    assert main(["compare", "bad", *words]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_analysis_needs_a_folder(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "a.json", "b.json", "--analysis", "on"])
    assert "--analysis needs --output" in capsys.readouterr().err
