"""Prediction on a user's images: the detections of an evaluation, named files, broken ones."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import lt_det
from lt_det.cli.commands import main
from lt_det.engine.prediction import predict as module
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config
from tests.engine.tiny import tiny_config, write_tiny_lvis

# Of the evaluation of the run: two iterations make no detector, but scores.
LOWEST = 1e-3


def train(cfg) -> str:
    """Train, and leave config.yaml beside the weights as the command line does."""
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    Path(cfg.OUTPUT_DIR, "config.yaml").write_text(cfg.dump())
    return cfg.OUTPUT_DIR


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[str, Path]:
    """Folder of a run and of its images; the ids of its categories are 10, 20, ..."""
    folder = tmp_path_factory.mktemp("predict")
    torch.manual_seed(1)
    json_file, images = write_tiny_lvis(folder)
    content = json.loads(Path(json_file).read_text())
    for category in content["categories"]:
        category["id"] *= 10
    for annotation in content["annotations"]:
        annotation["category_id"] *= 10
    for image in content["images"]:
        image["neg_category_ids"] = [10 * i for i in image["neg_category_ids"]]
    Path(json_file).write_text(json.dumps(content))
    cfg = tiny_config(
        folder,
        SEED=1,
        SOLVER__MAX_ITER=2,
        SOLVER__BASE_LR=1e-4,  # the scores stay near 1 of 7
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=LOWEST,
    )
    return train(cfg), Path(images)


def evaluated(output: str) -> list[dict]:
    return json.loads(Path(output, "inference", "coco_instances_results.json").read_text())


def by_image(records, names=None) -> dict[int, list[dict]]:
    """Return the detections of each image, in their order; the ids are the names of the files."""
    found: dict[int, list[dict]] = {}
    for record in records:
        image = record["image_id"]
        found.setdefault(int(names[image][:-4]) if names else image, []).append(record)
    return found


def assert_same(records: list[dict], expected: list[dict]) -> None:
    """Images that share a batch differ from images alone by rounding."""
    assert [r["category_id"] for r in records] == [r["category_id"] for r in expected]
    for name, tolerance in (("bbox", 0.02), ("score", 1e-4)):
        values = [[r[name] for r in some] for some in (records, expected)]
        np.testing.assert_allclose(*values, atol=tolerance)
    assert [r["segmentation"]["counts"] for r in records] == [
        r["segmentation"]["counts"] for r in expected
    ]


def test_detections_are_those_of_the_evaluation(run, tmp_path):
    output, images = run
    done = lt_det.predict(output, [images], tmp_path, threshold=LOWEST, batch_size=3)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content == done.content
    names = {image["id"]: image["file_name"] for image in content["images"]}
    expected = evaluated(output)
    assert len(expected) > 8
    found, wanted = by_image(content["annotations"], names), by_image(expected)
    assert found.keys() == wanted.keys()
    for image in wanted:
        assert_same(found[image], wanted[image])
    # Other tools read it.
    coco = COCO(str(tmp_path / "predictions.json"))
    assert coco.cats[20]["name"] == "class_1"
    assert coco.annToMask(coco.anns[1]).sum() == coco.anns[1]["area"]
    assert sorted(os.listdir(tmp_path / "pictures")) == sorted(os.listdir(images))


def test_a_higher_threshold_leaves_the_higher_scores(run, tmp_path):
    output, images = run
    everything = evaluated(output)
    scores = np.sort([record["score"] for record in everything])
    gap = int(np.diff(scores).argmax())  # rounding must not decide
    score = float(scores[gap : gap + 2].mean())
    done = lt_det.predict(output, [images], tmp_path, threshold=score, pictures=False)
    assert not (tmp_path / "pictures").exists()
    kept = [record for record in everything if record["score"] >= score]
    assert len(done.content["annotations"]) == len(kept)


def test_no_detection_is_said_with_what_to_do(run, tmp_path):
    output, images = run
    done = lt_det.predict(output, [images], tmp_path, threshold=1.0, pictures=False)
    assert done.content["annotations"] == []
    assert any("Nothing reaches the thresholds (1 for all classes)" in one for one in done.notes)


def test_thresholds_by_class_lie_beside_the_weights(run, tmp_path):
    output, images = run
    everything = evaluated(output)
    counts = {i: sum(r["category_id"] == i for r in everything) for i in (10, 20, 30, 40, 50, 60)}
    shown = max(counts, key=counts.get)
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.yaml", "model_final.pth"):
        shutil.copy(os.path.join(output, name), copy)
    thresholds = {f"class_{i // 10 - 1}": LOWEST if i == shown else 1.0 for i in counts}
    (copy / "thresholds.json").write_text(json.dumps(thresholds))
    done = lt_det.predict(copy, [images], tmp_path / "out", pictures=False)
    found = [one["category_id"] for one in done.content["annotations"]]
    assert found == [shown] * counts[shown]
    assert "thresholds.json" in done.content["info"]["thresholds"]
    (copy / "thresholds.json").write_text('{"zebra": 0.5}')
    with pytest.raises(ValueError, match="1 classes that the model does not have.*zebra"):
        lt_det.predict(copy, [images], tmp_path / "out")
    (copy / "thresholds.json").write_text('{"class_1": 50}')
    with pytest.raises(ValueError, match="'class_1': .* score from 0 to 1, got 50"):
        lt_det.predict(copy, [images], tmp_path / "out")


def test_without_the_training_json_ids_count_from_1_and_that_is_said(run, tmp_path):
    output, images = run
    copy = tmp_path / "run"
    copy.mkdir()
    shutil.copy(os.path.join(output, "model_final.pth"), copy)
    text = Path(output, "config.yaml").read_text()
    (copy / "config.yaml").write_text(
        text.replace("tiny.json", "gone.json").replace("tiny_", "gone_")
    )
    done = lt_det.predict(copy, [images], tmp_path / "out", pictures=False)
    assert [c["id"] for c in done.content["categories"]] == [1, 2, 3, 4, 5, 6]
    assert "training json is not here" in done.notes[0]


def test_broken_images_are_named_and_stop_nothing(run, tmp_path, capsys):
    output, images = run
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    shutil.copy(images / "1.png", photos)
    shutil.copy(images / "2.png", photos / "deep" / "1.png")
    (photos / "cut.png").write_bytes((images / "1.png").read_bytes()[:200])
    (photos / "text.jpg").write_text("no image")
    (photos / "notes.txt").write_text("no image either")
    os.mkfifo(photos / "pipe.png")
    Image.new("RGB", (40_000, 3)).save(photos / "thin.png")
    words = ["predict", str(photos), "--weights", output, "--output", str(photos / "out")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "2 images predicted." in captured.out
    assert "thin.png: 40000 x 3 pixels: too thin for the size of the test" in captured.err
    assert "4 images could not be read:\n  cut.png: " in captured.err
    assert "text.jpg: cannot identify" in captured.err
    assert "pipe.png is a named pipe" in captured.err
    assert (photos / "out" / "pictures" / "deep" / "1.png").is_file()
    # The pictures of a call before are no images.
    for name in ("cut.png", "text.jpg", "pipe.png", "thin.png"):
        (photos / name).unlink()
    assert main(words) == 0
    assert "2 images predicted." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--weights", "RUN"], "'nowhere' does not exist"),
        (["EMPTY", "--weights", "RUN"], "no image in "),
        (["IMAGES", "--weights", "no.pth"], "weights 'no.pth' do not exist"),
        (["IMAGES", "--weights", "EMPTY"], "holds no checkpoint"),
        (["IMAGES", "--weights", "RUN", "--threshold", "2"], "score from 0 to 1, got 2.0"),
        (["IMAGES", "--weights", "RUN", "--batch-size", "0"], "batch_size must be at least 1"),
        (["BROKEN", "--weights", "RUN"], "none of the 1 images could be read"),
        (["IMAGES", "--weights", "ALONE"], "no config.yaml beside"),
    ],
)
def test_wrong_input_is_one_line(run, tmp_path, capsys, words, message):
    places = {"RUN": run[0], "IMAGES": str(run[1]), "EMPTY": str(tmp_path / "empty")}
    os.makedirs(places["EMPTY"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("x")
    (tmp_path / "alone").mkdir()
    shutil.copy(os.path.join(run[0], "model_final.pth"), tmp_path / "alone")
    places |= {"BROKEN": str(tmp_path / "broken"), "ALONE": str(tmp_path / "alone")}
    words = [places.get(word, word) for word in words]
    assert main(["predict", *words, "--output", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_what_was_found_is_kept_when_the_user_ends_it(run, tmp_path, monkeypatch):
    output, images = run
    drawn = []

    def draw(image, *_):
        drawn.append(image.name)
        if len(drawn) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_picture", draw)
    with pytest.raises(KeyboardInterrupt):
        lt_det.predict(output, [images], tmp_path)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["info"]["complete"] is False
    assert len(content["images"]) == 3


def test_classes_of_images_go_to_a_csv(tmp_path, capsys):
    cfg = digits_config(tmp_path, "SOLVER.MAX_ITER", 60)
    output = train(cfg)
    from detectron2.data import DatasetCatalog

    photos = tmp_path / "photos"
    photos.mkdir()
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])
    for index, record in enumerate(records):
        Image.fromarray(record["image"]).save(photos / f"{index:04}_{record['category_id']}.png")
    (photos / "zz.png").write_text("x")
    words = ["predict", str(photos), "--weights", output, "--output", str(tmp_path / "p")]
    assert main([*words, "--top-k", "2"]) == 1
    captured = capsys.readouterr()
    assert f"the first 48 of {len(records)} images" in captured.out
    with open(tmp_path / "p" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == sorted(os.listdir(photos))[:-1]
    right = [row["class_1"] == row["file_name"][5:-4] for row in rows]
    top1 = json.loads(Path(output, "results.json").read_text())["results"]["classification"]["top1"]
    assert 100 * np.mean(right) == pytest.approx(top1)
    assert all(float(row["score_1"]) >= float(row["score_2"]) for row in rows)
    assert (tmp_path / "p" / "sheet.png").stat().st_size > 1000
    assert main([*words, "--threshold", "0.5"]) == 1
    assert "has no thresholds" in capsys.readouterr().err
