"""Rows of classes are kept by name; a resumed run refuses other classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.start_classes import StartClasses, rows_in_file
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config, write_tiny_lvis
from tests.modeling.small_models import NUM_CLASSES, as_retinanet, small_config, small_model

FILE = ("Person", "traffic light", "cup", "dog", "kite", "bus")
MODEL = ("dog", "new one", "traffic_light", "person", "other")


def started(tmp_path, cfg, *, loss="softmax_ce", file_cfg=None):
    """Return state of a file of FILE's classes, and of a model of MODEL's that started from it."""
    source = small_model(file_cfg or cfg, seed=1)
    for parameter in source.parameters():
        parameter.data.add_(0.5)
    LongTailCheckpointer(source, str(tmp_path)).save("start")
    cfg = cfg.clone()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = len(MODEL)
    cfg.LT_DET.LOSS = loss
    model = small_model(cfg, seed=2)
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    checkpointer = LongTailCheckpointer(model, str(tmp_path))
    checkpointer.classes = StartClasses(MODEL, FILE)
    checkpointer.load(str(tmp_path / "start.pth"), checkpointables=[])
    assert not checkpointer.incompatible.incorrect_shapes
    return source.state_dict(), fresh, model.state_dict()


@pytest.mark.parametrize("kind", ["standard", "cascade"])
def test_rows_of_box_heads_and_masks_are_kept_by_name(tmp_path, kind):
    old, fresh, now = started(tmp_path, small_config(kind))
    places = rows_in_file(MODEL, FILE)
    assert places == [3, None, 1, 0, None]
    part = "box_predictor.0" if kind == "cascade" else "box_predictor"
    key = f"roi_heads.{part}.cls_score.weight"
    mask = "roi_heads.mask_head.predictor.bias"
    box = f"roi_heads.{part}.bbox_pred.weight"
    for row, place in enumerate(places):
        source, at = (fresh, row) if place is None else (old, place)
        assert torch.equal(now[key][row], source[key][at])
        assert torch.equal(now[mask][row], source[mask][at])
        if kind != "cascade":
            assert torch.equal(now[box][4 * row : 4 * row + 4], source[box][4 * at : 4 * at + 4])
    assert torch.equal(now[key][-1], old[key][-1])  # background
    if kind == "cascade":
        assert torch.equal(now[box], old[box])  # class-agnostic


def test_rows_of_a_sigmoid_head_come_from_a_softmax_one(tmp_path):
    old, fresh, now = started(tmp_path, small_config(), loss="sigmoid_ce")
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(now[key][0], old[key][3])
    assert torch.equal(now[key][1], fresh[key][1])
    bias = "roi_heads.box_predictor.cls_score.bias"
    assert torch.equal(now[bias], fresh[bias])  # the prior's


def test_rows_of_dense_heads_are_kept_for_every_anchor(tmp_path):
    old, fresh, now = started(tmp_path, as_retinanet(small_config()), loss="focal")
    key = "head.cls_score.weight"
    before = old[key].unflatten(0, (-1, NUM_CLASSES))
    after = now[key].unflatten(0, (-1, len(MODEL)))
    assert torch.equal(after[:, 0], before[:, 3])
    assert torch.equal(after[:, 1], fresh[key].unflatten(0, (-1, len(MODEL)))[:, 1])


def test_a_wrong_number_of_start_classes_is_named(tmp_path):
    model = small_model(small_config(), seed=1)
    LongTailCheckpointer(model, str(tmp_path)).save("start")
    checkpointer = LongTailCheckpointer(model, str(tmp_path))
    checkpointer.classes = StartClasses(MODEL, FILE[:4])
    with pytest.raises(ValueError, match=r"START_CLASSES says .* has 4 classes, but .* 7 rows"):
        checkpointer.load(str(tmp_path / "start.pth"), checkpointables=[])


def renamed(folder: Path, names: dict[str, str]) -> None:
    path = folder / "tiny.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["name"] = names.get(category["name"], category["name"])
    path.write_text(json.dumps(content))


def test_resuming_with_other_classes_names_them(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cfg = tiny_config(tmp_path / "a")
    trainer = LongTailTrainer(cfg)
    trainer.checkpointer.save("model_0000001", iteration=1)
    write_tiny_lvis(tmp_path / "b")
    renamed(tmp_path / "b", {"class_2": "elephant"})
    other = tiny_config(tmp_path / "b", OUTPUT_DIR=cfg.OUTPUT_DIR)
    with pytest.raises(ValueError, match=r"resume from.*lacks 1 \(elephant\).*\(class_2\)"):
        LongTailTrainer(other).resume_or_load(resume=True)
    other.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_0000001.pth"
    again = LongTailTrainer(other)
    again.resume_or_load(resume=False)
    key = "roi_heads.box_predictor.cls_score.weight"
    old, now = trainer._detector.state_dict()[key], again._detector.state_dict()[key]
    assert torch.equal(old[1], now[1])
    assert not torch.equal(old[2], now[2])
    other.LT_DET.DECOUPLED = True
    with pytest.raises(ValueError, match="not a stage-1 checkpoint of these classes.*elephant"):
        LongTailTrainer(other).resume_or_load(resume=False)


def test_num_classes_follows_from_the_data_unless_it_is_written(tmp_path):
    json_file, images = write_tiny_lvis(tmp_path)
    name = f"follow_{tmp_path.name}"
    (tmp_path / "c.yaml").write_text(
        f"LT_DET: {{DATASETS: [[{name}, {json_file}, {images}]]}}\n"
        f"DATASETS: {{TRAIN: [{name}]}}\nOUTPUT_DIR: here://out\n"
    )
    path = str(tmp_path / "c.yaml")
    cfg = load_config(path)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == NUM_CLASSES
    assert str(tmp_path / "out") == cfg.OUTPUT_DIR
    assert read_config(path).MODEL.ROI_HEADS.NUM_CLASSES == 80
    written = load_config(path, ["MODEL.ROI_HEADS.NUM_CLASSES", "80"])
    assert written.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert load_config("").MODEL.ROI_HEADS.NUM_CLASSES == 80
