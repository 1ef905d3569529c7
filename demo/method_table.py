"""Put the methods of all seeds into one table, with paired differences and their intervals.

An interval holds two sources of chance: other test images (resamples of the images, the same ones
for all methods and seeds) and other trainings (the spread of the differences over seeds). Their
variances are added; the degrees of freedom are Satterthwaite's.

Shape shorthand: S seeds, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.special import stdtrit
from tabulate import tabulate

from demo.methods import METHODS, PLAIN, START

METRICS = ("AP", "APr", "APc", "APf")

#: Rows of a seed by the name of the method, as :class:`demo.second_stages.SecondStages` has them.
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Mean difference of two methods over seeds, in points.

    Attributes:
        points: the mean.
        half: half of the width of the interval; NaN with one seed.
    """

    points: float
    half: float

    @property
    def is_beyond(self) -> bool:
        """Whether the interval does not hold 0."""
        return abs(self.points) > self.half

    def text(self) -> str:
        """Return e.g. "+1.2 ± 0.5", in bold where the interval does not hold 0."""
        if math.isnan(self.half):
            return f"{self.points:+.1f}"
        text = f"{self.points:+.1f} ± {self.half:.1f}"
        return f"**{text}**" if self.is_beyond else text


def paired_difference(
    ones: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    comparisons: int = 1,
    confidence: float = 0.95,
) -> Difference:
    """Return the mean difference of two methods with its interval.

    Args:
        ones: a row a seed.
        others: of the other method, the same seeds.
        metric: of METRICS.
        comparisons: among how many the interval is to hold all (Bonferroni).
        confidence: of all together.
    """
    by_seed = np.array([a[metric] - b[metric] for a, b in zip(ones, others)])
    if len(by_seed) < 2:
        return Difference(float(by_seed.mean()), float("nan"))
    drawn = np.array(
        [np.subtract(a["resamples"][metric], b["resamples"][metric]) for a, b in zip(ones, others)]
    )
    of_images = float(np.nanvar(drawn.mean(axis=0), ddof=1))
    of_seeds = float(by_seed.var(ddof=1)) / len(by_seed)
    total = of_images + of_seeds
    if not total:
        return Difference(float(by_seed.mean()), 0.0)
    freedom = (len(by_seed) - 1) * (total / of_seeds) ** 2 if of_seeds else math.inf
    quantile = float(stdtrit(min(freedom, 1e6), 1 - (1 - confidence) / 2 / comparisons))
    return Difference(float(by_seed.mean()), quantile * math.sqrt(total))


def summary(seeds: Mapping[int, Rows]) -> dict[str, Any]:
    """Return what the tables need, for a json: figures by seed, differences and their intervals.

    Args:
        seeds: seed -> its rows; a method that a seed has not, or that failed, is left out.
    """
    of_seeds = list(seeds.values())
    names = [START, *(m.name for m in METHODS)]
    present = [n for n in names if all("AP" in rows.get(n, {}) for rows in of_seeds)]
    others = [n for n in present if n != PLAIN]
    masked = [n for n in present if all("masks" in rows[n] for rows in of_seeds)]
    group = {m.name: m.group for m in METHODS}
    rows = []
    for name in present:
        ones = [rows[name] for rows in of_seeds]
        row: dict[str, Any] = {
            "method": name,
            "group": group.get(name, ""),
            "detections an image": [round(one["detections an image"], 1) for one in ones],
            "CPU ms a step": [
                round(one["CPU ms a step"], 2) for one in ones if "CPU ms a step" in one
            ],
            **{m: [round(one[m], 3) for one in ones] for m in METRICS},
        }
        if PLAIN in present and name != PLAIN:
            plain = [rows[PLAIN] for rows in of_seeds]
            row["minus (a)"] = {
                m: vars(paired_difference(ones, plain, m, comparisons=len(others))) for m in METRICS
            }
        if name in masked:
            row["mask"] = {m: [round(one["masks"][m], 3) for one in ones] for m in METRICS}
        if name in masked and PLAIN in masked and name != PLAIN:
            masks, plain = ([of[n]["masks"] for of in of_seeds] for n in (name, PLAIN))
            row["mask minus (a)"] = {
                m: vars(paired_difference(masks, plain, m, comparisons=len(masked) - 1))
                for m in METRICS
            }
        rows.append(row)
    return {
        "seeds": list(seeds),
        "NMS": of_seeds[0][START]["NMS"],
        "score threshold": of_seeds[0][START]["score threshold"],
        "rows": rows,
        "failed": {n: r["failed"] for rows in of_seeds for n, r in rows.items() if "failed" in r},
    }


def mask_table(found: Mapping[str, Any]) -> str:
    """Return the table of masks as markdown, with what it is of; "" where there are none.

    Args:
        found: a :func:`summary`.
    """
    body = [
        [
            f"`{row['method']}`" if row["group"] else row["method"],
            *(_spread(row["mask"][m]) for m in METRICS),
            *(
                _read(row["mask minus (a)"][m]).text() if "mask minus (a)" in row else ""
                for m in METRICS
            ),
        ]
        for row in found["rows"]
        if "mask" in row
    ]
    head = ["masks", *METRICS, *(f"{m} minus (a)" for m in METRICS)]
    if not body:
        return ""
    about = (
        "Masks of (a) and of the methods with the highest box AP, by a pass of the whole detector. "
        "The methods are chosen on these very images: that flatters them a little."
    )
    return f"{about}\n\n{tabulate(body, head, tablefmt='github', disable_numparse=True)}"


def table(found: Mapping[str, Any]) -> str:
    """Return the table as markdown.

    Args:
        found: a :func:`summary`.
    """
    body, last = [], ""
    for row in found["rows"]:
        if row["group"] != last:
            last = row["group"]
            body.append([f"*{last}*"] + [""] * (2 * len(METRICS) + 1))
        minus = row.get("minus (a)", {})
        body.append(
            [
                f"`{row['method']}`" if row["group"] else row["method"],
                *(_spread(row[m]) for m in METRICS),
                *(_read(minus[m]).text() if minus else "" for m in METRICS),
                f"{mean(row['CPU ms a step']):.1f}" if row["CPU ms a step"] else "",
            ]
        )
    head = ["method", *METRICS, *(f"{m} minus (a)" for m in METRICS), "CPU ms a step"]
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def notes(found: Mapping[str, Any]) -> str:
    """Return the sentences below the table: limits, what is beyond the intervals, what is missing.

    Args:
        found: a :func:`summary`.
    """
    there = [row["method"] for row in found["rows"]]
    text = [
        f"Seeds {', '.join(map(str, found['seeds']))}. (a) is `{PLAIN}`, plain fine-tuning. NMS "
        f"threshold {found['NMS']:g}, score threshold {found['score threshold']:g}, at most 100 "
        "detections an image, for all."
    ]
    if len(found["seeds"]) < 2:
        text.append("One seed gives no interval: its differences are not to be interpreted.")
    elif PLAIN in there:
        for metric in METRICS:
            minus = {
                row["method"]: _read(row["minus (a)"][metric])
                for row in found["rows"]
                if "minus (a)" in row
            }
            above = [n for n, d in minus.items() if d.is_beyond and d.points > 0]
            below = [n for n, d in minus.items() if d.is_beyond and d.points < 0]
            text.append(
                f"{metric}: above (a) beyond the interval {_listed(above)}; below it "
                f"{_listed(below)}; all others are inside."
            )
    text += [f"`{name}` was refused: {reason}" for name, reason in found["failed"].items()]
    missing = [m.name for m in METHODS if m.name not in (*there, *found["failed"])]
    if missing:
        text.append(f"Not run for all of these seeds yet: {_listed(missing)}.")
    return "\n\n".join(text)


def _read(found: Mapping[str, Any]) -> Difference:
    """Return a difference out of a json, where NaN is null."""
    return Difference(found["points"], math.nan if found["half"] is None else found["half"])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _spread(values: Sequence[float]) -> str:
    text = f"{mean(values):.1f}"
    return text if len(values) < 2 else f"{text} ± {stdev(values):.1f}"
