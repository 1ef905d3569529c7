"""Balance a trained detector: cache, try, choose, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lt_det.balancing.candidates import (
    Candidate,
    Recipe,
    calibrations,
    recipes,
    settings_to_try,
)
from lt_det.balancing.choice import balanced_halves
from lt_det.balancing.evaluation import CandidateEvaluation
from lt_det.balancing.export import write_balanced
from lt_det.balancing.kept import KeptCandidates, check_same_balance
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.outcome import Outcome, Tried, decide
from lt_det.balancing.plan import Step, duration, plan_text, steps
from lt_det.balancing.subject import Subject, build_subject
from lt_det.balancing.training import logit_moments, train_candidate, training_regions
from lt_det.data.stats.fractal_dimension import box_centres, fractal_dimensions
from lt_det.evaluation.analysis.matches import Matches

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Balanced:
    """Result of :func:`run_balance`.

    Attributes:
        outcome: table and choice.
        checkpoint: ``balanced.pth``.
        is_plain: whether plain Detectron2 loads it with ``balanced.yaml``.
        seconds: that it took.
        left_out: names of what the budget had no room for.
    """

    outcome: Outcome
    checkpoint: Path
    is_plain: bool
    seconds: float
    left_out: tuple[str, ...]


def plan_balance(cfg: Any, options: BalanceOptions, output: Path) -> tuple[Subject, list[Step]]:
    """Return what is balanced, and the steps with their costs; nothing is written but folders.

    Args:
        cfg: config of the detector, with MODEL.WEIGHTS.
        options: what to try.
        output: folder.

    Raises:
        ValueError: if the detector or the data set cannot be used; says why.
    """
    subject = build_subject(cfg, options, output)
    number = len(_recipes(subject, options))
    classifiers = 1 + len(_calibrations(subject)) + (1 if _has_logn(subject, options) else 0)
    plan = subject.sizes(classifiers, number)
    return subject, steps(
        plan,
        subject.rates,
        test_missing=subject.cache.missing(),
        train_missing=plan.train_images if number else 0,
    )


def run_balance(
    cfg: Any,
    options: BalanceOptions,
    output: Path,
    *,
    say: Callable[[str], None] = logger.info,
) -> Balanced:
    """Try, choose and write; what is finished is kept in ``output`` and used again.

    Args:
        cfg: config of the detector, with MODEL.WEIGHTS.
        options: what to try, and how to choose.
        output: folder for ``balanced.pth``, ``balanced.yaml``, the table and what is kept.
        say: called with the plan, and with what was left out.

    Raises:
        ValueError: as :func:`plan_balance`, or if ``output`` is of another balance.
    """
    started = time.monotonic()
    subject, rows = plan_balance(cfg, options, output)
    for text in (*subject.notes, plan_text(rows)):
        say(text)
    check_same_balance(output, subject.about(options))
    settings = settings_to_try(
        subject.replay.own,
        score_thresholds=options.score_thresholds,
        nms_thresholds=options.nms_thresholds,
    )
    evaluation = CandidateEvaluation(
        subject.replay,
        subject.cache.fill(),
        [record["image_id"] for record in subject.test_dicts],
        objects=subject.objects,
        metadata=subject.metadata,
        dataset_name=subject.choose_on,
    )
    kept = KeptCandidates(output, settings)
    own = Candidate("as trained", "as trained", subject.replay.own_classifiers())
    tried = _evaluated(
        evaluation, kept, settings, [own, *_calibrations(subject)], len(subject.test_dicts)
    )
    left_out: list[str] = []
    todo = _recipes(subject, options)
    if todo:
        deadline = started + options.budget
        tried += _trained(subject, options, evaluation, kept, settings, todo, deadline, left_out)
    if left_out:
        say(
            f"No time was left for {len(left_out)} of {len(todo)} trainings: "
            f"{', '.join(left_out)}. The same command with a larger --budget goes on from here"
        )
    own_limits = settings[0]
    flat = [
        Tried(candidate, limits, matches, limits == own_limits)
        for candidate, of_limits in tried
        for limits, matches in zip(settings, of_limits)
    ]
    half = balanced_halves(
        subject.objects.images_by_class(), total=len(subject.objects.image_ids), seed=options.seed
    )
    outcome = decide(
        flat, subject.objects, half, subject.groups(evaluation.class_rows()), options.objective,
        seed=options.seed,
    )  # fmt: skip
    outcome.notes.extend(subject.notes)
    final = flat[outcome.chosen]
    path, is_plain = write_balanced(
        output, subject.cfg, subject.model, final.candidate.classifiers, final.limits,
        kind=subject.replay.kind,
    )  # fmt: skip
    outcome.write(output)
    return Balanced(outcome, path, is_plain, time.monotonic() - started, tuple(left_out))


_WithMatches = tuple[Candidate, list[Matches]]


def _has_logn(subject: Subject, options: BalanceOptions) -> bool:
    return options.train and subject.replay.kind == "softmax"


def _calibrations(subject: Subject) -> list[Candidate]:
    counts = torch.from_numpy(subject.stats.counts("image"))
    fractal = None
    if subject.replay.kind == "softmax":
        dimensions = fractal_dimensions(
            *box_centres(subject.train_dicts), num_classes=subject.stats.num_classes
        )
        fractal = (
            torch.from_numpy(dimensions),
            max(subject.stats.num_images, len(subject.train_dicts)),
        )
    own = subject.replay.own_classifiers()
    return calibrations(own, counts, kind=subject.replay.kind, fractal=fractal)


def _recipes(subject: Subject, options: BalanceOptions) -> list[Recipe]:
    if not options.train:
        return []
    kind = subject.replay.kind
    found = recipes(kind, tau=options.tau)
    names = {recipe.name for recipe in found}
    asked = recipes(kind, losses=options.losses, tau=options.tau) if options.losses else []
    return [*(recipe for recipe in asked if recipe.name not in names), *found]


def _evaluated(
    evaluation: CandidateEvaluation,
    kept: KeptCandidates,
    settings: Sequence[Any],
    candidates: Sequence[Candidate],
    images: int,
) -> list[_WithMatches]:
    """Return the candidates with their matches, those that are missing evaluated in one pass."""
    found = {candidate.name: kept.load(candidate.name) for candidate in candidates}
    missing = [candidate for candidate in candidates if found[candidate.name] is None]
    if missing:
        names = f"{len(missing)} candidates" if len(missing) > 1 else missing[0].name
        with tqdm(
            total=images, desc=names, unit="img", disable=None, leave=len(missing) > 1
        ) as bar:
            results = evaluation(missing, settings, on_image=bar.update)
        for candidate, matches in zip(missing, results):
            kept.save(candidate, matches)
            found[candidate.name] = (candidate, matches)
    return [pair for candidate in candidates if (pair := found[candidate.name]) is not None]


def _trained(
    subject: Subject,
    options: BalanceOptions,
    evaluation: CandidateEvaluation,
    kept: KeptCandidates,
    settings: Sequence[Any],
    todo: Sequence[Recipe],
    deadline: float,
    left_out: list[str],
) -> Iterator[_WithMatches]:
    """Yield trained candidates with their matches, as long as there is time; name the others."""
    images = len(subject.test_dicts)
    rows = subject.train_rows
    own, slowest = subject.replay.own_classifiers(), 0.0
    if _has_logn(subject, options):
        done = kept.load("LogN")
        if done is None:
            regions = training_regions(subject.cfg, todo[0], dtype=options.dtype, rows=rows)
            moments = logit_moments(regions, own)
            counts = torch.from_numpy(subject.stats.counts("image"))
            (logn,) = calibrations(own, counts, kind="softmax", moments=moments)
            (done,) = _evaluated(evaluation, kept, settings, [logn], images)
        yield done
    with tqdm(total=len(todo), desc="classifiers", unit="training", disable=None) as bar:
        for recipe in todo:
            done = kept.load(recipe.name)
            if done is None and time.monotonic() + slowest > deadline:
                left_out.append(recipe.name)
                continue
            if done is None:
                begun = time.monotonic()
                bar.set_postfix_str(recipe.name)
                try:
                    candidate = train_candidate(
                        subject.cfg, recipe, iterations=options.iterations, dtype=options.dtype,
                        rows=rows,
                    )  # fmt: skip
                except (ValueError, FloatingPointError) as error:
                    # One loss that does not fit the data, or diverges, must not end the others.
                    logger.warning("%s is left out: %s", recipe.name, error)
                    bar.update()
                    continue
                (done,) = _evaluated(evaluation, kept, settings, [candidate], images)
                slowest = max(slowest, time.monotonic() - begun)
            bar.update()
            yield done


def closing_words(balanced: Balanced) -> str:
    """Return where the files are, and how to go on."""
    plain = "plain Detectron2" if balanced.is_plain else "lt_det (its backbone is from there)"
    return (
        f"{balanced.checkpoint} and balanced.yaml beside it are for {plain}; the table is "
        f"balance_table.csv. Took {duration(balanced.seconds)}."
    )
