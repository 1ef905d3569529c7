"""The picture of likelihoods, and the table of classification runs."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from lt_det.report.likelihood_plot import save_likelihood_plot
from lt_det.report.runs import CLASSIFICATION_METRICS, Run, comparison_table


def write(folder, shares, images=3):
    folder.mkdir(parents=True)
    content = {
        "share_of_images": {"all": shares, "few": [None] * len(shares)},
        "num_images": {"all": images, "few": 0},
    }
    (folder / "likelihood.json").write_text(json.dumps(content))
    return str(folder)


def test_picture_has_a_panel_for_each_group_with_images(tmp_path):
    one = write(tmp_path / "one", [0.5, 0.5])
    path = tmp_path / "x.png"
    save_likelihood_plot({"a": one}, path)
    width = Image.open(path).width
    content = json.loads((tmp_path / "one" / "likelihood.json").read_text())
    content["num_images"]["few"] = 1
    content["share_of_images"]["few"] = [1, 0]
    (tmp_path / "one" / "likelihood.json").write_text(json.dumps(content))
    save_likelihood_plot({"a": one, "b": write(tmp_path / "two", [1, 0])}, path)
    assert Image.open(path).width == 2 * width
    assert not list(tmp_path.glob("*.partial*"))


def test_runs_that_were_not_evaluated(tmp_path):
    with pytest.raises(FileNotFoundError, match="likelihood.json: evaluate the run"):
        save_likelihood_plot({"a": str(tmp_path)}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one run"):
        save_likelihood_plot({}, tmp_path / "x.png")


def test_classification_runs_are_tabulated_like_detectors(tmp_path):
    for seed, top1 in enumerate((50.0, 52.0)):
        folder = tmp_path / str(seed) / "inference"
        folder.mkdir(parents=True)
        summary = {"top1": top1, "many": 60.0, "medium": 40.0, "few": None}
        (folder / "per_category_classification.json").write_text(
            json.dumps({"summary": summary, "categories": []})
        )
    runs = {"CE": [Run.read(str(tmp_path / str(seed))) for seed in (0, 1)]}
    header, _, row = comparison_table(runs, metrics=CLASSIFICATION_METRICS).splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        *("method", "test top1", "test many", "test medium", "test few")
    ]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *("CE", "51.0 ± 1.4", "60.0 ± 0.0", "40.0 ± 0.0", "–")
    ]
