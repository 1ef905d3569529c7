"""``lt-det check-data``: what it prints, its status, and the copies it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lt_det.cli.check_data import parse_arguments
from lt_det.cli.checked_text import findings_text
from lt_det.cli.commands import main
from lt_det.data.inspection.data_sets import inspect_data_sets
from tests.data.inspection.test_data_sets import good
from tests.data.inspection.test_labelled_images import picture


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(good()))
    return path


def spoil(path: Path, **fields) -> None:
    content = json.loads(path.read_text())
    content["annotations"][0].update(fields)
    path.write_text(json.dumps(content))


def test_a_good_set_has_status_0_and_an_outlook(train, capsys):
    assert main(["check-data", "--train", str(train), "--repeat-threshold", "0.5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Nothing is wrong.")
    assert "2 rare, 0 common, 0 frequent" in out
    assert "an epoch is 4 draws of 4 images, 1 classes repeated, the largest factor 1.41" in out
    assert "give their folder with --images" in out


def test_troubles_have_status_1_and_name_file_image_and_annotation(train, capsys):
    spoil(train, bbox=[1, 2, -3, 4], area=0)
    assert main(["check-data", "--train", str(train)]) == 1
    out = capsys.readouterr().out
    assert f"{train}: 1 of 5 annotations: 'bbox' is not [x, y" in out
    assert "annotation 1 of image 1: [1, 2, -3, 4]. Correct or remove them." in out
    assert out.index("ERRORS (1)") < out.index("WARNINGS (1)") < out.index("(mendable)")


def test_json_is_for_machines(train, capsys):
    spoil(train, area=0, segmentation=[1, 1, 9, 1, 9, 9])
    assert main(["check-data", "--train", str(train), "--val", str(train), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is False
    assert found["findings"][0]["kind"] == "mask-flat"
    assert found["findings"][0]["first"][0].startswith("annotation 1 of image 1: ")
    assert [row["train_images"] for row in found["outlook"]["classes"]] == [4, 1]


def test_a_mended_copy_is_right_and_the_file_untouched(train, capsys):
    spoil(train, area=0, segmentation=[1, 1, 9, 1, 9, 9], iscrowd="0", id=2)
    before = train.read_bytes()
    out = train.with_name("mended.json")
    assert main(["check-data", "--train", str(train), "--fix", str(out)]) == 0
    assert "Left in the mended: 0 errors." in capsys.readouterr().out
    assert train.read_bytes() == before
    assert main(["check-data", "--train", str(out)]) == 0
    assert capsys.readouterr().out.startswith("Nothing is wrong.")


def test_what_cannot_be_mended_stays_an_error(train, capsys):
    spoil(train, bbox=[1, 2, -3, 4], area=0)
    out = train.with_name("mended.json")
    assert main(["check-data", "--train", str(train), "--fix", str(out)]) == 1
    assert "Left in the mended: 1 errors:\n  no-box: " in capsys.readouterr().out


def test_several_files_are_mended_into_a_folder(train, tmp_path, capsys):
    val = tmp_path / "val.json"
    val.write_text(train.read_text())
    words = ["check-data", "--train", str(train), "--val", str(val), "--fix"]
    assert main([*words, str(tmp_path / "x.json")]) == 1
    assert "must be a folder" in capsys.readouterr().err
    assert main([*words, str(tmp_path)]) == 1
    assert "is a file that is read" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "mended")]) == 0
    assert sorted(os.listdir(tmp_path / "mended")) == ["train.json", "val.json"]


def test_a_name_cannot_change_the_terminal(tmp_path):
    content = good()
    content["categories"][1]["name"] = "dog\x1b[31m"
    content["annotations"].pop()
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert "\x1b" not in findings_text(inspect_data_sets([path]).findings)


def test_image_folders_and_csv_files(tmp_path, capsys):
    for name, count in {"cat": 3, "dog": 2}.items():
        for i in range(count):
            picture(tmp_path / "set" / name / f"{i}.png", 40 * i + len(name) + ord(name[0]))
    words = ["check-data", "--train", str(tmp_path / "set"), "--html", str(tmp_path / "p.html")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("Nothing is wrong.")
    assert "2 few, 0 medium, 0 many" in out
    assert "new-project holds out a fifth" in out
    assert "Estimates for" in out
    page = (tmp_path / "p.html").read_text()
    assert "<h2>The rarest classes</h2>" in page
    assert "cat: 3 training images" in page
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outlook"]["classes"][0]["train_images"] == 3
    assert main([*words, "--fix", "x"]) == 1
    assert "--fix mends jsons" in capsys.readouterr().err
    (tmp_path / "set/cat/0.png").write_bytes(b"")
    assert main(words) == 1


def test_the_data_of_a_config_are_checked_as_it_uses_them(train, capsys):
    config = train.with_name("c.yaml")
    config.write_text(
        "MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 80}}\n"
        "INPUT: {MASK_FORMAT: bitmask}\n"
        "LT_DET: {DATASETS: [[own_a, train.json, ''], [own_b, train.json, '']]}\n"
        "DATASETS: {TRAIN: [own_a], TEST: [own_b, elsewhere]}\n"
    )
    assert main(["check-data", "--config-file", str(config)]) == 1
    out = capsys.readouterr().out
    assert "ROI_HEADS.NUM_CLASSES is 80, the training set has 2 classes. Leave it out" in out
    assert "No image is repeated: an epoch is 4 draws." in out
    assert "Not looked at: elsewhere is not registered." in out
    options = ["MODEL.ROI_HEADS.NUM_CLASSES", "2", "DATALOADER.REPEAT_THRESHOLD", "0.5"]
    options += ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    main(["check-data", "--config-file", str(config), "--options", *options])
    out = capsys.readouterr().out
    assert "NUM_CLASSES" not in out
    assert "threshold 0.5: an epoch is 4 draws" in out
    with pytest.raises(SystemExit):
        parse_arguments(["--config-file", str(config), "--train", str(train)])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--train", "a", "--val", "b", "--images", "1", "2", "3"],
        ["--train", "a", "--rare-max", "5", "--common-max", "5"],
        ["--train", "a", "--repeat-threshold", "0"],
        ["--train", "a", "--options", "SEED", "1"],
        ["--train", "a.json", "b.csv"],
        ["--train", "b.csv", "--images", "c"],
    ],
)
def test_senseless_options_are_refused(words):
    with pytest.raises(SystemExit):
        parse_arguments(words)


# Case -> kinds it must be told of, beside others, and whether a training would go right. Cases of
# configs and checkpoints are left out: the data there are good.
CASES = {
    "02-category-id-0": (set(), True),
    "03-roboflow-root-category": ({"root-category"}, True),
    "04-no-area-no-iscrowd": ({"absent-area"}, True),
    "05-boxes-only-mask-on": ({"boxes-only"}, True),
    "05b-boxes-only-empty-list": ({"boxes-only"}, True),
    "06-mixed-boxes-and-polygons": ({"masks-mixed"}, False),
    "07-rle-compressed": ({"masks-encoded"}, True),
    "07b-rle-counts-list": ({"masks-encoded"}, True),
    "08-flat-polygon": ({"mask-flat"}, False),
    "09-annotation-id-0": (set(), True),
    "09b-no-annotation-ids": ({"absent-annotation-id"}, True),
    "10-category-order-differs": (set(), True),
    "10b-ids-swapped-between-splits": ({"class-ids-differ"}, True),
    "11-val-lacks-a-class": ({"class-not-in-val"}, True),
    "12-string-image-ids": ({"image-id-type"}, False),
    "13-exif-rotated-image": ({"image-rotated"}, False),
    "14-negative-images": ({"empty-images"}, True),
    "15-duplicate-names": ({"repeated-category-name"}, False),
    "17-single-class": ({"one-class"}, True),
    "27-windows-paths": ({"file-name"}, False),
    "28-grey-alpha-16bit": ({"image-depth", "image-alpha", "image-palette"}, False),
    "29-missing-and-cut-image": ({"missing-image", "broken-image"}, False),
    "29b-cut-image": ({"broken-image"}, False),
    "30-boxes-outside-and-flat": ({"box-outside", "box-flat"}, True),
    "30b-empty-bbox": ({"no-box"}, False),
    "34-json-with-bom": ({"bom"}, True),
    "36-category-ids-as-text": ({"category-id-type"}, False),
    "41-neg-ids-in-some-images": ({"absent-neg-category-ids"}, True),
    "45-zero-image-class": ({"class-without-object"}, True),
    "47b-area-zero-some": ({"wrong-area"}, True),
    "48-boxes-as-corners": ({"box-corners"}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_cases_from_public_reports(case):
    root = Path(__file__).resolve().parents[3] / "shared" / "cases" / "own_data"
    if not root.is_dir():
        pytest.skip("../shared/cases/own_data is not there")
    folder = root / case
    images = folder / "images"
    if images.is_file():  # holds the path of the good ones
        images = folder / images.read_text().strip()
    train, val = (
        folder / name if (folder / name).exists() else root / name
        for name in ("train.json", "val.json")
    )
    found = inspect_data_sets([train], [val], image_roots=[images])
    kinds, usable = CASES[case]
    assert {one.kind for one in found.findings} >= kinds
    assert found.is_usable == usable
