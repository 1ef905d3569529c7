"""Pictures and tables after an evaluation."""

from __future__ import annotations

import logging
import os

from lt_det.engine import evaluation_pictures
from lt_det.engine.evaluation_pictures import chosen_records
from lt_det.engine.trainer import LongTailTrainer
from lt_det.report.class_table import worst_and_best_table
from tests.engine.digits import digits_config
from tests.engine.tiny import tiny_config

PICTURES = ("ap_against_frequency.png", "predictions.png")


def train(cfg):
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_a_training_and_an_evaluation_leave_pictures(tmp_path, caplog):
    cfg = tiny_config(
        tmp_path,
        LT_DET__EVAL__PICTURES=True,
        SOLVER__MAX_ITER=2,
        TEST__EVAL_PERIOD=1,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=1e-3,
    )
    drawn = []
    draw = evaluation_pictures._draw_sheet
    evaluation_pictures._draw_sheet = lambda *a, **k: drawn.append(1) or draw(*a, **k)
    try:
        with caplog.at_level(logging.INFO):
            train(cfg)
    finally:
        evaluation_pictures._draw_sheet = draw
    assert len(drawn) == 1  # after the last iteration, not in the middle
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    for name in PICTURES:
        path = os.path.join(folder, name)
        assert path in caplog.text
        assert os.path.getsize(path) > 5000
        os.remove(path)
    assert "Worst and best classes" in caplog.text
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    LongTailTrainer.evaluate_checkpoint(cfg)
    assert set(PICTURES) <= set(os.listdir(folder))


def test_a_failing_picture_fails_nothing_and_a_key_leaves_them_out(tmp_path, caplog, monkeypatch):
    cfg = tiny_config(
        tmp_path,
        LT_DET__EVAL__PICTURES=True,
        SOLVER__MAX_ITER=1,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=1e-3,
    )

    def fail(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(evaluation_pictures, "draw_prediction_sheet", fail)
    results = train(cfg)._last_eval_results
    assert "bbox" in results
    assert "OSError: no room (LT_DET.EVAL.PICTURES False" in caplog.text
    caplog.clear()
    cfg.LT_DET.EVAL.PICTURES = False
    train(cfg)
    assert "no room" not in caplog.text


def test_a_classifier_gets_the_table(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(digits_config(tmp_path, "SOLVER.MAX_ITER", 5, "LT_DET.EVAL.PICTURES", True))
    assert "Worst and best classes of" in caplog.text
    assert "| accuracy |" in caplog.text.replace("  ", "")


def record(*classes):
    return {"annotations": [{"category_id": k} for k in classes]}


def test_images_of_the_rarest_classes_come_first_and_each_once():
    records = [record(0), record(0, 1), record(0), record(2), record()]
    chosen = chosen_records(records, [100, 3, 50], number=3)
    assert chosen == [records[1], records[3], records[0]]
    assert len(chosen_records(records, [1, 1, 1])) == 4


def test_table_leaves_out_classes_without_objects():
    rows = [{"name": f"n{k}", "group": "r", "num_gt_instances": 1, "AP": k} for k in range(30)]
    rows.append({"name": "none", "group": "f", "num_gt_instances": 0, "AP": None})
    text = worst_and_best_table(rows, metric="AP", train_images={"n0": 7}, rows=2)
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:7]] == [
        *("n0", "n1", "26 between", "n28", "n29")
    ]
    assert text.endswith("1 classes have no test object, so no AP")
