"""Table of what was tried, and what the choice is worth."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from lt_det.balancing.candidates import LEVELS, Candidate
from lt_det.balancing.choice import (
    Chosen,
    Objective,
    choose,
    cross_fitted,
    resamples,
)
from lt_det.balancing.replay import PostProcessing
from lt_det.balancing.truth import Truth
from lt_det.engine.startup.run_record import origin
from lt_det.evaluation.analysis.resampling import interval
from lt_det.evaluation.results import write_json
from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file

_DRAWS_TO_CHOOSE, _DRAWS_OF_GAIN = 200, 1000


@dataclass(frozen=True)
class Tried:
    """A candidate with one limit.

    Attributes:
        candidate: its classifiers.
        limits: of its detections; None of an image classifier.
        judged: what it found.
        is_own: whether the limits are the model's own.
    """

    candidate: Candidate
    limits: PostProcessing | None
    judged: Any = field(repr=False)
    is_own: bool

    @property
    def level(self) -> int:
        """Place in :data:`LEVELS`."""
        level = LEVELS.index(self.candidate.level)
        return level if self.is_own or level else LEVELS.index("post-processing")


@dataclass(frozen=True)
class Outcome:
    """What balance has found.

    Attributes:
        rows: one a candidate and limit, the start first: column -> value.
        chosen: place of the final choice, on all images.
        on_halves: place of what was chosen on each half.
        gain: metric -> difference to the start in points, lowest and highest of the interval; of
            what each half chose, on the other half.
        objective: that was chosen by.
        notes: sentences for the reader.
        evaluated: "start" and "balanced" -> results of an evaluation through the model; empty
            where that was not asked for.
    """

    rows: list[dict[str, Any]]
    chosen: int
    on_halves: tuple[int, int]
    gain: dict[str, tuple[float, float, float]]
    objective: Objective
    notes: list[str]
    evaluated: dict[str, Any] = field(default_factory=dict)

    @property
    def is_gain(self) -> bool:
        """Whether the objective's interval is above 0."""
        return self.gain[self.objective.metric][1] > 0

    def write(self, folder: Path) -> None:
        """Write ``balance_table.csv`` and ``balance_result.json``."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            shown = {k: "" if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
            writer.writerow({k: for_csv(v) for k, v in shown.items()})
        with atomic_file(folder / "balance_table.csv") as file:
            file.write(text.getvalue())
        write_json(
            folder / "balance_result.json",
            {
                "objective": str(self.objective),
                "chosen": self.rows[self.chosen],
                "start": self.rows[0],
                "chosen_on_halves": [self.rows[i] for i in self.on_halves],
                "cross_fitted_gain": {
                    k: {"points": v[0], "interval_95": list(v[1:])} for k, v in self.gain.items()
                },
                "notes": self.notes,
                **({"evaluated": self.evaluated} if self.evaluated else {}),
                "candidates": self.rows,
                "origin": origin(),
            },
        )

    def text(self, *, most: int = 12) -> str:
        """Return the start, the best rows by the objective, the choice and the notes."""
        key = self.objective.metric
        order = sorted(range(len(self.rows)), key=lambda i: -np.nan_to_num(self.rows[i][key]))
        shown = list(dict.fromkeys([0, self.chosen, *order]))[:most]
        columns = [c for c in self.rows[0] if c != "settings"]
        body = [
            ["*" if i == self.chosen else "", *(self.rows[i][c] for c in columns)] for i in shown
        ]
        formats = ["", *(".1f" if c in self.objective.metrics else "g" for c in columns)]
        table = tabulate(body, ["", *columns], tablefmt="github", floatfmt=formats)
        gains = ", ".join(
            f"{name} {value:+.1f} [{low:+.1f}, {high:+.1f}]"
            for name, (value, low, high) in self.gain.items()
        )
        of_all = (
            f"{len(shown)} of {len(self.rows)} candidates" if len(shown) < len(self.rows) else ""
        )
        return "\n".join(
            [
                table,
                of_all,
                f"Chosen (*) by {self.objective}: {self.rows[self.chosen]['candidate']}.",
                f"Gain on images that were not chosen on (cross-fitted, 95 % intervals): {gains}.",
                *self.notes,
                *self._evaluated_text(),
            ]
        )

    def _evaluated_text(self) -> list[str]:
        """Return the results through the model as a table; nothing where there are none."""
        lines = []
        for task in self.evaluated.get("start", {}):
            of_task = {which: results[task] for which, results in self.evaluated.items()}
            names = [
                k
                for k, v in of_task["start"].items()
                if k in (*self.objective.metrics, "top1", "natural", "ece") and np.isfinite(v)
            ]
            body = [[which, *(results[k] for k in names)] for which, results in of_task.items()]
            table = tabulate(body, [f"{task}, through the model", *names], "github", ".1f")
            lines += ["", table]
        return lines


def decide(
    tried: Sequence[Tried],
    truth: Truth,
    half: np.ndarray,
    groups: Sequence[str | None],
    objective: Objective,
    *,
    seed: int,
) -> Outcome:
    """Return the choice on all images, with the gain of the choice on each half on the other.

    Args:
        tried: the start first.
        truth: of all images.
        half: ``(I,)`` bool, the images of one half.
        groups: "r", "c" or "f" of each class.
        objective: what is to be high.
        seed: of the resamples.
    """
    everything = np.ones(len(half))
    sides = (half.astype(float), (~half).astype(float))
    wanted = classes_of(objective, groups)
    draws = resamples(half, _DRAWS_TO_CHOOSE, seed=seed)
    three = np.stack([everything, *sides])
    point = np.stack([truth.class_figures(t.judged, three) for t in tried])
    levels = [t.level for t in tried]

    def chosen(row: int, images: np.ndarray) -> Chosen:
        weights = draws * images
        drawn = np.stack([truth.class_figures(t.judged, weights, classes=wanted) for t in tried])
        return choose(point[:, row], drawn, levels, groups, objective)

    final = chosen(0, everything)
    picks = [chosen(1 + side, images) for side, images in enumerate(sides)]
    draws = np.vstack([everything[None], resamples(half, _DRAWS_OF_GAIN, seed=seed + 1)])
    halves = []
    for pick, images in zip(picks, (sides[1], sides[0])):
        pair = (tried[0].judged, tried[pick.index].judged)
        first, second = (truth.class_figures(judged, draws * images) for judged in pair)
        halves.append((first, second))
    gains = {
        name: (float(values[0]), *interval(values[1:], around=float(values[0])))
        for name, values in cross_fitted(halves, groups, objective).items()
    }
    means = [objective.means(of_candidate[:1], groups) for of_candidate in point]
    rows = [
        {
            "candidate": t.candidate.name,
            "level": LEVELS[t.level],
            "settings": t.candidate.settings,
            **(t.limits.row() if t.limits else {}),
            **{name: float(value[0]) for name, value in mean.items()},
        }
        for t, mean in zip(tried, means)
    ]
    outcome = Outcome(rows, final.index, (picks[0].index, picks[1].index), gains, objective, [])
    outcome.notes.extend(_notes(outcome, final, truth.images_by_class(), half))
    return outcome


def classes_of(objective: Objective, groups: Sequence[str | None]) -> list[int]:
    """Return the classes that the metric of an objective is the mean of."""
    wanted = objective.metrics[objective.metric]
    return [k for k, group in enumerate(groups) if not wanted or group == wanted]


def _notes(
    outcome: Outcome, final: Chosen, by_class: Sequence[np.ndarray], half: np.ndarray
) -> list[str]:
    key = outcome.objective.metric
    _, low, high = outcome.gain[key]
    if set(outcome.on_halves) == {0}:
        notes = ["Both halves keep the model as it was trained: no gain can be shown."]
    elif low > 0:
        notes = [f"The gain in {key} is beyond what other images of this kind would change."]
    else:
        notes = [f"No gain in {key} can be shown: the interval [{low:+.1f}, {high:+.1f}] holds 0."]
    if final.reason:
        notes.append(f"Not the best figure: {final.reason}.")
    names = [outcome.rows[i]["candidate"] for i in outcome.on_halves]
    notes.append(f"The halves chose: {names[0]}; {names[1]}.")
    both = [rows for rows in by_class if half[rows].any() and (~half[rows]).any()]
    notes.append(
        f"{len(half)} images were chosen on; {len(both)} of {len(by_class)} classes are in both "
        "halves."
    )
    return notes
