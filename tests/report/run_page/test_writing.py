"""The page of runs and its files, without a browser."""

from __future__ import annotations

import csv
import json
import re

import pytest

from lt_det.cli.commands import main
from lt_det.report.page_style import SCRIPT
from lt_det.report.run_page.writing import PageOptions, save_run_page
from tests.report.run_page.folders import EVIL, NAMES, write_run, write_test_set

ANCHORS = ("provenance", "groups", "frequency", "changes", "classes", "confusion", "errors",
           "calibration", "classifier", "meta", "balance-0", "images", "class-images")  # fmt: skip


@pytest.fixture(scope="module")
def text(page) -> str:
    return page.read_text()


@pytest.fixture(scope="module")
def numbers(page) -> dict:
    return json.loads((page.parent / "report.json").read_text())


@pytest.mark.parametrize("anchor", ANCHORS)
def test_every_part_is_there_and_in_the_menu(text, anchor):
    assert f'<h2 id="{anchor}">' in text
    assert f'<a href="#{anchor}">' in text


def test_images_are_of_rare_classes_where_there_are(text):
    assert "Images of rare classes" in text


def test_names_are_text(text):
    assert EVIL not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "tau &lt;b&gt;" in text
    assert text.count("<script>") == 1
    assert SCRIPT in text


def test_nothing_is_fetched(text):
    found = re.findall(r"""(?:src|href)=["']([^"']*)["']""", text)
    assert all(one.startswith(("#", "data:image/jpeg")) for one in found)
    assert "url(" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_provenance_comes_first(text, numbers):
    assert text.index('id="provenance"') < text.index('id="groups"')
    plain, balms, _ = numbers["provenance"]
    assert plain["loss"] == "softmax_ce"
    assert balms["score threshold"] == "0.001"
    assert balms["NMS"] == "0.5"
    assert re.fullmatch("[0-9a-f]{16}", plain["test set, sha256"])


def test_rare_classes_gain_beyond_chance(numbers):
    by_metric = {one["metric"]: one for one in numbers["differences"]}
    assert by_metric["APr"]["low"] > 0
    assert by_metric["APr"]["verdict"] == "higher"
    assert by_metric["APf"]["value"] == pytest.approx(0.0, abs=20)


def test_configs_are_compared(text, numbers):
    part = text[text.index("What the configs differ in") : text.index('id="groups"')]
    assert "LT_DET.LOSS" in part
    assert "LT_DET.DATASETS" not in part
    assert numbers["provenance"][0]["config"].endswith("config.yaml")


def test_classes_csv_has_every_class(page):
    with open(page.parent / "classes.csv", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(NAMES)
    assert rows["axolotl"]["train_images"] == "2"
    assert float(rows["axolotl"]["balms"]) > float(rows["axolotl"]["plain"])


def test_a_run_of_detectron2_needs_the_ground_truth(tmp_path, capsys):
    val = write_test_set(tmp_path / "zoo")
    run = write_run(tmp_path / "stock", val)
    for name in ("config.yaml", "metrics.json", "model_final.pth"):
        (run / name).unlink()
    output = tmp_path / "report"
    assert main(["report", str(run), "--output", str(output)]) == 1
    assert "--ground-truth" in capsys.readouterr().err
    assert not output.exists()
    words = ["--ground-truth", str(val), "--output", str(output)]
    assert main(["report", f"stock={run}", *words]) == 0
    text = (output / "report.html").read_text()
    assert "no checkpoint is in the folder" in text
    assert "Not recorded: model, loss," in text
    assert "give --train-json" in text
    assert 'id="images"' in text


def test_a_run_that_found_nothing_has_a_page(tmp_path, capsys):
    val = write_test_set(tmp_path / "zoo")
    content = json.loads(val.read_text())
    for category in content["categories"]:
        del category["frequency"]
    val.write_text(json.dumps(content))
    run = write_run(tmp_path / "run", val)
    (run / "model_final.pth").unlink()  # and with it the groups
    (run / "inference" / "coco_instances_results.json").write_text("[]")
    assert main(["report", str(run), "--output", str(tmp_path / "out")]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Images of the classes with the fewest objects" in text


def test_figures_in_metrics_json_are_enough(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    line = {"iteration": 9, "bbox/AP": 12.5, "bbox/AP-cat": 20.0, "bbox/AP-owl": float("nan")}
    (run / "metrics.json").write_text('{"iteration": 4, "bbox/AP": 1.0}\n' + json.dumps(line))
    save_run_page([(None, str(run))], str(tmp_path / "out"), PageOptions())
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(g["metric"], g["value"]) for g in numbers["groups"]] == [("AP", 12.5)]
    assert {c["class"]: c["run"] for c in numbers["classes"]} == {"cat": 20.0, "owl": None}
    assert "lt-det evaluate" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_that_is_given_twice_is_no_second_seed(tmp_path):
    runs = [(None, str(tmp_path)), ("b", f"{tmp_path}/../{tmp_path.name}")]
    with pytest.raises(ValueError, match="is given twice, and would count as two seeds"):
        save_run_page(runs, str(tmp_path / "out"))


def test_seeds_of_a_config_are_one_method(tmp_path):
    val = write_test_set(tmp_path / "zoo")
    runs = [
        (None, str(write_run(tmp_path / f"seed{s}" / "balms", val, rare=0.3 + 0.2 * s, seed=s)))
        for s in (0, 1)
    ]
    options = PageOptions(pictures=False)
    save_run_page(runs, str(tmp_path / "out"), options)
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    (method,) = {one["method"] for one in numbers["groups"]}
    assert method == "balms"
    assert next(g for g in numbers["groups"] if g["metric"] == "APr")["runs"] == 2
    assert "±" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no folder"),
        ({}, "has no results of an evaluation"),
        ({"metrics.json": '{"iteration": 3}'}, "the training is not over"),
        ({"inference/per_category_bbox.json": "{"}, "is no json"),
        ({"inference/per_category_bbox.json": "[]"}, "expected a json object with 'categories'"),
        ({"inference/per_category_bbox.json": '{"categories": [1]}'}, "records with a name"),
        ({"inference/coco_instances_results.json": "{}"}, "detections only"),
    ],
)
def test_folders_that_are_no_runs_end_in_one_line(tmp_path, capsys, content, words):
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    assert main(["report", str(folder), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
