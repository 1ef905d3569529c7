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
    METRICS,
    Chosen,
    Objective,
    choose,
    cross_fitted,
    resamples,
)
from lt_det.balancing.replay import PostProcessing
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.resampling import interval
from lt_det.evaluation.analysis.weighted_ap import class_aps, group_means
from lt_det.evaluation.results import write_json
from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file

_DRAWS_TO_CHOOSE, _DRAWS_OF_GAIN = 200, 1000
COLUMNS = ("candidate", "level", "settings", "score threshold", "NMS", *METRICS)


@dataclass(frozen=True)
class Tried:
    """A candidate with one limit.

    Attributes:
        candidate: its classifiers.
        limits: of its detections.
        matches: what it found.
        is_own: whether the limits are the detector's own.
    """

    candidate: Candidate
    limits: PostProcessing
    matches: Matches = field(repr=False)
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
        rows: one a candidate and limit, the start first: the COLUMNS.
        chosen: place of the final choice, on all images.
        on_halves: place of what was chosen on each half.
        gain: metric -> difference to the start in points, lowest and highest of the interval; of
            what each half chose, on the other half.
        objective: that was chosen by.
        notes: sentences for the reader.
    """

    rows: list[dict[str, Any]]
    chosen: int
    on_halves: tuple[int, int]
    gain: dict[str, tuple[float, float, float]]
    objective: Objective
    notes: list[str]

    @property
    def is_gain(self) -> bool:
        """Whether the objective's interval is above 0."""
        return self.gain[self.objective.metric][1] > 0

    def write(self, folder: Path) -> None:
        """Write ``balance_table.csv`` and ``balance_result.json``."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
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
                "candidates": self.rows,
            },
        )

    def text(self, *, most: int = 12) -> str:
        """Return the start, the best rows by the objective, the choice and the notes."""
        key = self.objective.metric
        order = sorted(range(len(self.rows)), key=lambda i: -np.nan_to_num(self.rows[i][key]))
        shown = list(dict.fromkeys([0, self.chosen, *order]))[:most]
        body = [
            [
                "*" if i == self.chosen else "",
                *(self.rows[i][c] for c in COLUMNS if c != "settings"),
            ]
            for i in shown
        ]
        head = ["", *(c for c in COLUMNS if c != "settings")]
        table = tabulate(
            body, head, tablefmt="github", floatfmt=("", "", "", "g", "g", *[".1f"] * 4)
        )
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
            ]
        )


def decide(
    tried: Sequence[Tried],
    objects: Objects,
    half: np.ndarray,
    groups: Sequence[str | None],
    objective: Objective,
    *,
    seed: int,
) -> Outcome:
    """Return the choice on all images, with the gain of the choice on each half on the other.

    Args:
        tried: the start first.
        objects: ground truth.
        half: ``(I,)`` bool, the images of one half.
        groups: "r", "c" or "f" of each class.
        objective: what is to be high.
        seed: of the resamples.
    """
    everything = np.ones(len(half))
    sides = (half.astype(float), (~half).astype(float))
    wanted = _classes_of(objective.metric, groups)
    draws = resamples(half, _DRAWS_TO_CHOOSE, seed=seed)
    point = np.stack([class_aps(objects, t.matches, np.stack([everything, *sides])) for t in tried])
    levels = [t.level for t in tried]

    def chosen(row: int, images: np.ndarray) -> Chosen:
        drawn = np.stack(
            [class_aps(objects, t.matches, draws * images, classes=wanted) for t in tried]
        )
        return choose(point[:, row], drawn, levels, groups, objective)

    final = chosen(0, everything)
    picks = [chosen(1 + side, images) for side, images in enumerate(sides)]
    draws = np.vstack([everything[None], resamples(half, _DRAWS_OF_GAIN, seed=seed + 1)])
    halves = []
    for pick, images in zip(picks, (sides[1], sides[0])):
        start = class_aps(objects, tried[0].matches, draws * images)
        halves.append((start, class_aps(objects, tried[pick.index].matches, draws * images)))
    gains = {
        name: (float(values[0]), *interval(values[1:], around=float(values[0])))
        for name, values in cross_fitted(halves, groups).items()
    }
    means = [group_means(of_candidate[:1], groups) for of_candidate in point]
    rows = [
        {
            "candidate": t.candidate.name,
            "level": LEVELS[t.level],
            "settings": t.candidate.settings,
            "score threshold": t.limits.score_threshold,
            "NMS": t.limits.nms_threshold,
            **{name: float(mean[name][0]) for name in METRICS},
        }
        for t, mean in zip(tried, means)
    ]
    outcome = Outcome(rows, final.index, (picks[0].index, picks[1].index), gains, objective, [])
    outcome.notes.extend(_notes(outcome, final, objects, half))
    return outcome


def _classes_of(metric: str, groups: Sequence[str | None]) -> list[int]:
    return [k for k, group in enumerate(groups) if metric == "AP" or metric == f"AP{group}"]


def _notes(outcome: Outcome, final: Chosen, objects: Objects, half: np.ndarray) -> list[str]:
    key = outcome.objective.metric
    _, low, high = outcome.gain[key]
    if set(outcome.on_halves) == {0}:
        notes = ["Both halves keep the detector as it was trained: no gain can be shown."]
    elif low > 0:
        notes = [f"The gain in {key} is beyond what other images of this kind would change."]
    else:
        notes = [f"No gain in {key} can be shown: the interval [{low:+.1f}, {high:+.1f}] holds 0."]
    if final.reason:
        notes.append(f"Not the best figure: {final.reason}.")
    names = [outcome.rows[i]["candidate"] for i in outcome.on_halves]
    notes.append(f"The halves chose: {names[0]}; {names[1]}.")
    both = [rows for rows in objects.images_by_class() if half[rows].any() and (~half[rows]).any()]
    notes.append(
        f"{len(half)} images were chosen on; {len(both)} of {len(objects.category_ids)} classes "
        "have objects in both halves."
    )
    return notes
