"""Choose among candidates without taking luck for skill.

Images are resampled (paired: all candidates see the same resamples). A simple candidate stays
unless some more complicated one is better by more than the best of as many equal ones would be by
luck: the bound is that of the largest studentised difference over all of them (White, "A Reality
Check for Data Snooping", Econometrica 2000).

Shape shorthand: C candidates, B resamples, I images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lt_det.data.stats.frequency_groups import SHOT_NAMES
from lt_det.evaluation.analysis.weighted_ap import AP_METRICS, group_means

#: As :data:`AP_METRICS`; the mean over all classes is top-1 where all have as many images.
ACCURACY_METRICS: Mapping[str, str] = {"mean_class": "", **{SHOT_NAMES[g]: g for g in "rcf"}}
#: Of detectors, then of image classifiers.
METRICS = (*AP_METRICS, *ACCURACY_METRICS)


@dataclass(frozen=True)
class Objective:
    """What is to be as high as can be.

    Attributes:
        metric: one of :data:`METRICS`.
        kept: another one that must not fall; "" for none.
        loss: points by which it may fall below the start.
    """

    metric: str = "APr"
    kept: str = "AP"
    loss: float = 0.0

    @classmethod
    def of(cls, metric: str, kept: str | None, loss: float) -> Objective:
        """Return an objective; with ``kept`` None, the mean over all classes must not fall."""
        if kept is None:
            overall = "AP" if metric in AP_METRICS else "mean_class"
            kept = "" if metric == overall else overall
        return cls(metric, kept, loss)

    def __post_init__(self) -> None:
        names = AP_METRICS if self.metric in AP_METRICS else ACCURACY_METRICS
        if self.metric not in names:
            raise ValueError(f"objective: expected one of {METRICS}, got {self.metric!r}")
        if self.kept and self.kept not in names:
            raise ValueError(
                f"objective: with {self.metric}, one of {tuple(names)} can be kept, got "
                f"{self.kept!r}"
            )
        if not 0.0 <= self.loss < np.inf:
            raise ValueError(f"objective: the loss allowed must be at least 0, got {self.loss}")

    @property
    def metrics(self) -> Mapping[str, str]:
        """Metrics of this kind of model, as :data:`AP_METRICS`."""
        return AP_METRICS if self.metric in AP_METRICS else ACCURACY_METRICS

    def means(self, figures: np.ndarray, groups: Sequence[str | None]) -> dict[str, np.ndarray]:
        """Return metric -> ``(B,)`` of ``(B, K)`` figures of classes."""
        return group_means(figures, groups, metrics=self.metrics)

    def __str__(self) -> str:
        if not self.kept:
            return self.metric
        below = f"at most {self.loss:g} below" if self.loss else "not below"
        return f"{self.metric} with {self.kept} {below} the start"


@dataclass(frozen=True)
class Chosen:
    """Result of :func:`choose`.

    Attributes:
        index: of the candidate.
        best: of the one with the best figure, whatever its level.
        reason: why it is not the best, in words; "" where it is.
    """

    index: int
    best: int
    reason: str


def balanced_halves(
    by_class: Sequence[Sequence[int] | np.ndarray], *, total: int, seed: int
) -> np.ndarray:
    """Return ``(I,)`` bool: a half of the images with about a half of the images of each class.

    The rarest class chooses first; an image goes where the class has fewer yet, else where there
    are fewer images.

    Args:
        by_class: rows of the images with an object of each class.
        total: I.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    side = np.full(total, -1)
    for rows in sorted(map(np.asarray, by_class), key=len):
        for row in rng.permutation(rows[side[rows] < 0] if len(rows) else rows):
            here = [int((side[rows] == s).sum()) for s in (0, 1)]
            everywhere = [int((side == s).sum()) for s in (0, 1)]
            order = [(here[s], everywhere[s], rng.random(), s) for s in (0, 1)]
            side[row] = min(order)[-1]
    rest = rng.permutation(np.flatnonzero(side < 0))
    side[rest[::2]], side[rest[1::2]] = 0, 1
    return side == 1


def resamples(half: np.ndarray, number: int, *, seed: int) -> np.ndarray:
    """Return ``(B, I)`` how often each image is drawn; each half is resampled by itself."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((number, len(half)))
    for rows in (np.flatnonzero(half), np.flatnonzero(~half)):
        if len(rows):
            share = np.full(len(rows), 1.0 / len(rows))
            weights[:, rows] = rng.multinomial(len(rows), share, size=number)
    return weights


def choose(
    point: np.ndarray,
    drawn: np.ndarray,
    levels: Sequence[int],
    groups: Sequence[str | None],
    objective: Objective,
    *,
    confidence: float = 0.95,
) -> Chosen:
    """Return the simplest candidate that no more complicated one beats beyond luck.

    Args:
        point: ``(C, K)`` figure of each class; candidate 0 is the start.
        drawn: ``(C, B, K)`` figure of each class on each resample.
        levels: complexity of each candidate, 0 for the start.
        groups: "r", "c" or "f" of each class.
        objective: what is to be high.
        confidence: probability that a simple candidate stays where all are equal.
    """
    means = objective.means(point, groups)
    value = means[objective.metric]
    if not np.isfinite(value[0]):
        raise ValueError(
            f"objective {objective.metric}: no class of that group has an object in these images"
        )
    allowed = np.isfinite(value)
    if objective.kept:
        kept = means[objective.kept]
        allowed &= ~(kept < kept[0] - objective.loss - 1e-9)
    allowed[0] = True
    of_draws = np.stack([objective.means(one, groups)[objective.metric] for one in drawn])  # (C, B)
    usable = np.isfinite(of_draws[0])
    of_draws = of_draws[:, usable]
    level = np.asarray(levels)
    best = int(np.argmax(np.where(allowed, value, -np.inf)))
    for step in np.unique(level[allowed]):
        members = np.flatnonzero(allowed & (level == step))
        simple = int(members[np.argmax(value[members])])
        others = np.flatnonzero(allowed & (level > step))
        if not len(others):
            return Chosen(simple, best, "")
        if not _beaten(value, of_draws, simple, others, confidence):
            reason = ""
            if value[best] > value[simple]:
                reason = (
                    f"the best figure is {objective.metric} {value[best]:.2f}, its own "
                    f"{value[simple]:.2f}: with {len(others)} more complicated candidates that is "
                    "no more than luck may give, so the simpler one is taken"
                )
            return Chosen(simple, best, reason)
    raise AssertionError("the most complicated level has no others")


def _beaten(
    value: np.ndarray, drawn: np.ndarray, simple: int, others: np.ndarray, confidence: float
) -> bool:
    """Return whether one of ``others`` is better than ``simple`` beyond luck."""
    difference = value[others] - value[simple]
    spread_out = drawn[others] - drawn[simple]  # (n, B)
    error = spread_out.std(axis=1)
    differs = error > 0
    if not differs.any():
        return False
    studentised = (spread_out - difference[:, None])[differs] / error[differs, None]
    bound = np.quantile(studentised.max(axis=0), confidence)
    return bool((difference[differs] / error[differs] > bound).any())


def cross_fitted(
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: Sequence[str | None],
    objective: Objective,
) -> dict[str, np.ndarray]:
    """Return the gain of what was chosen on one half, on the other, both ways round.

    A class counts by the mean of the halves that have objects of it, then the groups are averaged,
    so that each class has the same weight as in AP.

    Args:
        halves: for each half ``(B, K)`` figures of the start and of what was chosen on the other
            half.
        groups: "r", "c" or "f" of each class.
        objective: says which metrics there are.

    Returns:
        metric -> ``(B,)`` difference in points.
    """
    tables = []
    for which in (0, 1):
        stacked = np.stack([half[which] for half in halves])
        number = (~np.isnan(stacked)).sum(axis=0)
        tables.append(np.where(number > 0, np.nansum(stacked, 0) / np.maximum(number, 1), np.nan))
    before, after = (objective.means(table, groups) for table in tables)
    return {name: after[name] - before[name] for name in objective.metrics}
