"""Which runs are seeds of one method, what it is called, and what is compared with what."""

from __future__ import annotations

import math

import pytest

from lt_det.report.run_page.evaluating import differences
from lt_det.report.run_page.figures import Difference
from lt_det.report.run_page.material import gather
from lt_det.report.run_page.methods import methods_of
from lt_det.report.run_page.recorded_config import RecordedConfig
from lt_det.report.run_page.results import results
from lt_det.report.run_page.run_folder import Evaluated, RunFolder
from lt_det.report.run_page.training_facts import TrainingFacts

DEFAULTS = {"LT_DET": {"LOSS": "softmax_ce", "NEW": {"POWER": 1.0}}}
NOTHING = TrainingFacts(None, None, None, "")


def a_run(folder: str, *, seed: int = 0, ap: float = 1.0, **keys: object) -> RunFolder:
    config = RecordedConfig({"SEED": seed, "OUTPUT_DIR": folder, "LT_DET": keys})
    summary = {"AP": ap, "APr": ap, "APc": ap, "APf": ap}
    record = {"name": "cat", "AP": ap}
    results = {"bbox": Evaluated(summary, [record], "per_category_bbox.json")}
    return RunFolder(folder, None, results, config, {}, None, [], None, "")


def names(*runs: RunFolder) -> list[tuple[str, int]]:
    found = methods_of([(None, run) for run in runs], defaults=DEFAULTS)
    return [(method.name, len(method.runs)) for method in found]


def test_a_key_of_a_later_version_at_its_default_makes_no_other_method():
    old, new = a_run("out/seed0/a"), a_run("out/seed1/a", seed=1, NEW={"POWER": 1.0})
    assert names(old, new) == [("a", 2)]
    assert len(names(old, a_run("out/seed1/a", seed=1, NEW={"POWER": 2.0}))) == 2


def test_seeds_are_named_by_what_their_folders_share():
    runs = [a_run(f"out/seed{s}/{m}", seed=s, LOSS=m) for m in ("a", "b") for s in (0, 1)]
    assert names(*runs) == [("a", 2), ("b", 2)]
    assert names(*(a_run(f"out/a/seed{s}", seed=s) for s in (0, 1))) == [("a", 2)]


def test_the_folder_of_a_seed_alone_is_no_name():
    assert names(a_run("out/a/seed0"), a_run("out/b", LOSS="focal")) == [("a/seed0", 1), ("b", 1)]


def of(name: str, *figures: float, first: int = 0) -> list[tuple[str, RunFolder]]:
    return [(name, a_run(f"{name}{i}", seed=first + i, ap=v)) for i, v in enumerate(figures)]


@pytest.mark.parametrize(
    ("base", "other"), [((2.0,), (3.0, 5.0)), ((1.0, 3.0), (4.0,)), ((1.0, 3.0), (3.0, 4.0, 5.0))]
)
def test_differences_belong_to_the_means_shown_beside_them(base, other):
    methods = methods_of([*of("base", *base), *of("other", *other)])
    facts = {run.folder: NOTHING for method in methods for run in method.runs}
    found, notes = differences(gather(methods, facts))
    assert [one.value for one in found if one.metric == "AP"] == [2.0]
    assert all(math.isnan(one.low) for one in found)
    assert len(notes) == (len(base) > 1 and len(other) > 1)


def test_only_differences_that_are_shown_have_a_colour():
    methods = methods_of([*of("base", 1.0), *of("other", 2.0)])
    material = gather(methods, {run.folder: NOTHING for m in methods for run in m.runs})
    verdicts = ("higher", "lower", "no difference can be shown", "")
    found = [
        Difference("other", "base", "", metric, value, value - 1, value + 1, verdict)
        for metric, value, verdict in zip(material.metrics, (2.0, -2.0, -0.2, 0.2), verdicts)
    ]
    kinds = [row[2].kind for row in results(material, found).parts[-1].rows]
    assert kinds == ["number up", "number down", "number", "number"]


def test_seeds_are_paired_by_their_numbers(monkeypatch):
    pairs = []

    def compare(one, other, **_):
        pairs.append((one, other))
        raise ValueError("not here")

    monkeypatch.setattr("lt_det.report.run_page.evaluating.compare_runs", compare)

    def with_matches(name, seeds):
        for seed in seeds:
            run = a_run(f"{name}{seed}", seed=seed)
            run.results["bbox"] = Evaluated(
                {"AP": 1.0}, [{"name": "cat", "AP": 1.0}], "x", matches=f"{name}{seed}"
            )
            yield name, run

    runs = [*with_matches("a", (0, 1)), *with_matches("b", (1, 0)), *with_matches("c", (7,))]
    methods = methods_of(runs)
    facts = {run.folder: NOTHING for method in methods for run in method.runs}
    differences(gather(methods, facts))
    assert pairs == [("a0", "b0"), ("a1", "b1"), ("a0", "c7"), ("a1", "c7")]
