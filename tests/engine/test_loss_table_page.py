"""The table of what trains where: the page is what was recorded, and that is still so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_det.losses import LOSSES
from lt_det.report.loss_table import TRAINS, loss_table
from tests.engine.loss_cells import HEADS, STAGES, WAYS, outcome

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "table.md"
HOW = "run python tools/loss_table.py"

#: One of each kind: plain, with a state and a column, with draws, with other scores.
SAMPLE = [
    ("balanced_softmax", "Standard", "yaml", "meta learner"),
    ("eqlv2", "Cascade", "yaml", "stage 1"),
    ("seesaw", "Res5", "lazy", "second stage"),
    ("efl", "RetinaNet", "yaml", "stage 1"),
    ("gumbel", "RetinaNet", "lazy", "stage 1"),
    ("fedloss", "FCOS", "lazy", "stage 1"),
    ("softmax_ce", "FCOS", "lazy", "stage 1"),
    ("ecm", "patched", "lazy", "second stage"),
    ("seesaw", "patched", "yaml", "stage 1"),
    ("gol", "images", "lazy", "stage 1"),
]


@pytest.fixture(scope="module")
def recorded():
    return json.loads((ROOT / "benchmarks" / "results" / "loss_cells.json").read_text())


def test_the_page_is_that_of_the_record(recorded):
    assert loss_table(recorded) == PAGE.read_text().split("tools/loss_table.py -->\n\n")[1], HOW


def test_every_cell_is_there(recorded):
    assert list(recorded) == list(LOSSES), HOW
    for heads in recorded.values():
        assert list(heads) == list(HEADS)
        for configs in heads.values():
            assert list(configs) == list(WAYS)
            assert all(list(stages) == list(STAGES) for stages in configs.values())


@pytest.mark.parametrize("cell", SAMPLE, ids="-".join)
def test_a_cell_does_what_the_table_says(recorded, cell):
    loss, head, way, stage = cell
    assert outcome(*cell) == recorded[loss][head][way][stage], HOW


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_all_cells_do_what_the_table_says(recorded, loss):
    found = {h: {w: {s: outcome(loss, h, w, s) for s in STAGES} for w in WAYS} for h in HEADS}
    assert found == recorded[loss], HOW


def test_another_error_than_a_refusal_is_none(monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("tests.engine.loss_cells._train_yaml", broken)
    with pytest.raises(ValueError, match="two"):
        outcome("softmax_ce", "Standard", "yaml", "stage 1")


def test_the_table_groups_errors_by_letter():
    refused = {"stage 1": TRAINS, "second stage": "not 'a' here", "meta learner": "not 'a' here"}
    table = loss_table({"a": {"H": {"yaml": refused, "lazy": dict.fromkeys(refused, TRAINS)}}})
    assert "| 1 a / 12M |" in table
    assert "- a: not '...' here" in table
