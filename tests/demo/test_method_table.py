"""The comparison of methods: paired intervals, the table, and what is done once."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from demo.compare_methods import kept_rows, methods_text, with_masks
from demo.method_table import METRICS, mask_table, notes, paired_difference, summary, table
from demo.methods import METHODS, PLAIN, START
from lt_det.losses import LOSSES

ROOT = Path(__file__).resolve().parents[2]


def row(name: str, value: float, *, noise: float = 0.0, seed: int = 0) -> dict:
    drawn = value + noise * np.random.default_rng(seed).standard_normal(400)
    return {
        "method": name,
        "options": [],
        **dict.fromkeys(METRICS, value),
        "resamples": {m: drawn.tolist() for m in METRICS},
        "detections an image": 99.0,
        "NMS": 0.5,
        "score threshold": 0.001,
    }


def test_the_interval_of_seeds_alone_is_student_s():
    ones = [row("a", v) for v in (11.0, 12.0, 13.0)]
    others = [row("b", 10.0) for _ in ones]
    found = paired_difference(ones, others, "AP")
    assert found.points == pytest.approx(2.0)
    # Resamples without noise: the standard error is 1 / sqrt(3), t of two degrees is 4.303.
    resampled = [
        np.subtract(a["resamples"]["AP"], b["resamples"]["AP"]) for a, b in zip(ones, others)
    ]
    assert np.var(np.mean(resampled, axis=0)) == pytest.approx(0)
    assert found.half == pytest.approx(4.3027 / math.sqrt(3), rel=1e-3)
    assert not found.is_beyond  # 2.0 against 2.48


def test_the_interval_of_images_alone_is_normal():
    ones = [row("a", 12.0, noise=1.0) for _ in range(3)]
    others = [row("b", 10.0) for _ in ones]
    found = paired_difference(ones, others, "AP")
    spread = np.std(ones[0]["resamples"]["AP"], ddof=1)
    assert found.half == pytest.approx(1.95996 * spread, rel=1e-3)


def test_chance_that_both_share_cancels():
    """All methods see the same resamples: what an image does to both is no difference."""
    ones = [row("a", 12.0, noise=5.0, seed=s) for s in range(3)]
    others = [row("b", 10.0, noise=5.0, seed=s) for s in range(3)]
    assert paired_difference(ones, others, "AP").half == pytest.approx(0, abs=1e-6)


def test_many_comparisons_widen_the_interval():
    ones = [row("a", v, noise=1.0) for v in (11.0, 12.0, 13.0)]
    others = [row("b", 10.0) for _ in ones]
    one, many = (paired_difference(ones, others, "AP", comparisons=c).half for c in (1, 40))
    assert many > 1.5 * one


@pytest.fixture
def seeds():
    def of_seed(seed: int) -> dict:
        rows = {START: row(START, 5.0)}
        for i, method in enumerate(METHODS[:4]):
            noise = {"noise": 0.1, "seed": seed}
            rows[method.name] = row(method.name, 10.0 + i + 0.01 * seed * i, **noise)
        rows[METHODS[5].name] = {"method": METHODS[5].name, "options": [], "failed": "no"}
        return rows

    return {s: of_seed(s) for s in (0, 1, 2)}


def test_the_table_has_what_all_seeds_have(seeds):
    del seeds[1][METHODS[3].name]
    found = summary(json.loads(json.dumps(seeds)))
    text = table(found)
    assert f"`{METHODS[2].name}`" in text
    assert f"`{METHODS[3].name}`" not in text
    assert f"`{METHODS[5].name}` was refused: no" in notes(found)
    assert METHODS[3].name in notes(found).rpartition("Not run")[2]


def test_what_is_beyond_the_interval_is_said(seeds):
    found = summary(seeds)
    assert f"AP: above (a) beyond the interval `{METHODS[1].name}`" in notes(found)
    assert f"below it `{START}`" in notes(found)
    one = json.loads(json.dumps(summary({0: seeds[0]})).replace("NaN", "null"))
    assert "not to be interpreted" in notes(one)
    assert "±" not in table(one)


def test_finished_rows_are_found(tmp_path, seeds):
    for name, value in seeds[0].items():
        (tmp_path / f"{name.replace(' ', '_')}.json").write_text(json.dumps(value))
    (tmp_path / "balance.json").write_text("{}")
    assert kept_rows(tmp_path) == seeds[0]


def test_masks_are_of_the_best_and_of_plain_fine_tuning(seeds):
    found = summary(seeds)
    assert mask_table(found) == ""
    names = [method.name for method in with_masks(found)]
    assert names == [START, PLAIN, *(m.name for m in METHODS[1:4])]


def test_the_mask_table_has_what_all_seeds_have(tmp_path, seeds):
    for seed, rows in seeds.items():
        folder = tmp_path / str(seed)
        (folder / "masks").mkdir(parents=True)
        for i, (name, value) in enumerate(rows.items()):
            (folder / f"{i}.json").write_text(json.dumps(value))
            if "AP" not in value or (name == METHODS[3].name and seed == 1):
                continue
            masks = {**value, **{metric: value[metric] - 3.0 for metric in METRICS}}
            (folder / "masks" / f"{i}.json").write_text(json.dumps(masks))
    found = summary({seed: kept_rows(tmp_path / str(seed)) for seed in seeds})
    text = mask_table(found)
    assert f"`{METHODS[2].name}`" in text
    assert f"`{METHODS[3].name}`" not in text
    assert "| 7.0 ± 0.0" in text  # of plain fine-tuning, 10 in boxes
    assert "**+2.0 ± " in text
    assert methods_text(found).endswith(f"\n\n{text}\n")


def test_methods_are_of_the_table_of_losses():
    names = [m.name for m in METHODS]
    assert len(names) == len(set(names))
    assert names[0] == PLAIN
    for method in METHODS:
        options = dict(zip(method.options[::2], method.options[1::2]))
        assert bool(method.options) != bool(method.correction)
        if method.options:
            assert options["LT_DET.LOSS"] in LOSSES
    compared = {dict(zip(m.options[::2], m.options[1::2])).get("LT_DET.LOSS") for m in METHODS}
    assert {None, *LOSSES} >= compared


def test_the_page_is_that_of_the_record():
    tool = runpy.run_path(str(ROOT / "tools" / "methods_page.py"))
    text = tool["PAGE"].read_text(encoding="utf-8")
    assert tool["page"](text, json.loads(tool["RECORD"].read_text())) == text
