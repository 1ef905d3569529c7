"""What goes wrong beside an AP costs a warning and never the AP."""

from __future__ import annotations

import errno
import json
import logging

import numpy as np
import pytest

from lt_det.evaluation import results as result_files
from lt_det.evaluation.analysis import analyse, beside_ap
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.lvis import evaluator as lvis_evaluator
from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator
from lt_det.evaluation.lvis.json_evaluation import evaluate_lvis
from tests.evaluation.fake_detector import feed, predictions, register
from tests.evaluation.lvis.sets import random_ground_truth

NAME = "lt_det_test_beside_results"


@pytest.fixture
def pairs(tmp_path) -> list:
    truth = random_ground_truth(np.random.default_rng(3))
    register(NAME, truth, tmp_path)
    return predictions(truth, seed=4)


def evaluated(pairs, folder, *, analysis=True):
    evaluator = LongTailLVISEvaluator(
        NAME,
        output_dir=str(folder),
        analysis=AnalysisOptions(resamples=5) if analysis else None,
    )
    feed(evaluator, pairs)
    return evaluator.evaluate()


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def fail(*args, **kwargs):
    raise ZeroDivisionError("seeded\nin two lines")


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (analyse, "find_errors"),
        (analyse, "find_confusion"),
        (analyse, "drawn_means"),
        (beside_ap, "analysis_table"),
        (beside_ap, "write_analysis"),
    ],
)
def test_an_error_in_the_analysis_is_one_warning(
    pairs, tmp_path, caplog, monkeypatch, module, name
):
    expected = evaluated(pairs, tmp_path / "plain", analysis=False)
    evaluated(pairs, tmp_path / "run")
    assert (tmp_path / "run" / "analysis_bbox.json").is_file()
    caplog.clear()
    monkeypatch.setattr(module, name, fail)
    with caplog.at_level(logging.DEBUG, logger="lt_det"):
        np.testing.assert_equal(evaluated(pairs, tmp_path / "run"), expected)
    found = warnings_of(caplog)
    assert len(found) == 2, found
    for kind, text in zip(("bbox", "segm"), found):
        assert f"analysis of {kind} on {NAME}" in text
        assert "ZeroDivisionError: seeded in two lines" in text
        assert "\n" not in text
    traced = [r for r in caplog.records if r.exc_info and r.levelno == logging.DEBUG]
    assert len(traced) == 2
    # Nothing of the evaluation before stays beside results that are not its.
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {path.name for path in (tmp_path / "plain").iterdir()}


def test_both_ap_come_before_the_first_analysis(pairs, tmp_path, monkeypatch):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt  # as the end of a job: nothing holds it back

    monkeypatch.setattr(beside_ap, "analyse", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluated(pairs, tmp_path / "run")
    for kind in ("bbox", "segm"):
        content = json.loads((tmp_path / "run" / f"per_category_{kind}.json").read_text())
        assert content["summary"]["AP"] > 0


def test_the_json_evaluation_keeps_its_ap(pairs, tmp_path, caplog, monkeypatch):
    expected = evaluated(pairs, tmp_path / "run", analysis=False)
    detections = tmp_path / "run" / "coco_instances_results.json"
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(random_ground_truth(np.random.default_rng(3))))
    monkeypatch.setattr(beside_ap, "analyse", fail)
    found = evaluate_lvis(
        truth, detections, output_dir=tmp_path / "out", analysis=AnalysisOptions()
    )
    assert len(warnings_of(caplog)) == 2
    for kind, result in found.items():
        np.testing.assert_equal(result.summary, expected[kind])


def test_a_full_disk_does_not_cost_the_ap(pairs, tmp_path, caplog, monkeypatch):
    expected = evaluated(pairs, tmp_path / "plain", analysis=False)
    evaluated(pairs, tmp_path / "run")
    caplog.clear()
    for module in (result_files, lvis_evaluator):
        monkeypatch.setattr(module, "write_json_records", full_disk)
    monkeypatch.setattr(lvis_evaluator, "write_per_category", full_disk)
    monkeypatch.setattr(beside_ap, "write_analysis", full_disk)
    np.testing.assert_equal(evaluated(pairs, tmp_path / "run"), expected)
    assert len(warnings_of(caplog)) == 5
    assert not list((tmp_path / "run").iterdir())


def test_detections_without_annotations_are_the_result(tmp_path, monkeypatch):
    truth = random_ground_truth(np.random.default_rng(3))
    pairs = predictions(truth, seed=4)
    register(NAME, {**truth, "annotations": []}, tmp_path)
    monkeypatch.setattr(lvis_evaluator, "write_json_records", full_disk)
    with pytest.raises(OSError, match="No space left"):
        evaluated(pairs, tmp_path / "run")


def test_what_works_stays(tmp_path):
    path = tmp_path / "file"
    with beside_results("writing", files=[path]):
        path.write_text("kept")
    assert path.read_text() == "kept"
