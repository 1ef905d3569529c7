"""Balance a trained model: cache, try, choose, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lt_det.balancing.candidates import Candidate, Recipe
from lt_det.balancing.detector_subject import build_detector_subject
from lt_det.balancing.final_evaluation import num_images, results_of
from lt_det.balancing.image_subject import build_image_subject
from lt_det.balancing.kept import KeptCandidates, check_same_balance
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.outcome import Outcome, Tried, decide
from lt_det.balancing.plan import Step, duration, plan_text, steps
from lt_det.balancing.subject import Evaluation, Subject
from lt_det.balancing.training import logit_moments, train_candidate, training_regions
from lt_det.tasks import build_task

logger = logging.getLogger(__name__)

# Trained classifiers that are evaluated in one pass: the boxes are decoded once for all of them.
_TOGETHER = 8


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
        cfg: config of the detector or image classifier, with MODEL.WEIGHTS.
        options: what to try.
        output: folder.

    Raises:
        ValueError: if the model or the data set cannot be used; says why.
    """
    images = build_task(cfg).one_class_an_image
    subject = (build_image_subject if images else build_detector_subject)(cfg, options, output)
    subject.half(options)  # checks the objective
    number = len(subject.recipes(options))
    if number and (note := subject.fitting.note()):
        subject.notes.append(note)
    logn = options.train and subject.has_logn
    plan = subject.sizes(1 + len(subject.calibrations()) + int(logn), number)
    return subject, steps(
        plan,
        subject.rates,
        test_missing=subject.missing(),
        train_missing=plan.train_images if number else 0,
        evaluated=num_images(subject) if options.evaluate else 0,
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
        cfg: config of the detector or image classifier, with MODEL.WEIGHTS.
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
    settings, evaluation = subject.settings(options), subject.evaluation()
    kept = KeptCandidates(output, settings, subject.judged)
    own = Candidate("as trained", "as trained", subject.own_classifiers())
    tried = _evaluated(
        evaluation, kept, settings, [own, *subject.calibrations()], len(subject.test_dicts)
    )
    left_out: list[str] = []
    todo = subject.recipes(options)
    if todo:
        deadline = started + options.budget
        found = _trained(subject, options, evaluation, kept, settings, todo, deadline, left_out)
        order = {recipe.name: place for place, recipe in enumerate(todo)}
        tried += sorted(found, key=lambda pair: order.get(pair[0].name, -1))
    if left_out:
        say(
            f"No time was left for {len(left_out)} of {len(todo)} trainings: "
            f"{', '.join(left_out)}. The same command with a larger --budget goes on from here"
        )
    own_limits = settings[0]
    flat = [
        Tried(candidate, limits, judged, limits == own_limits)
        for candidate, of_limits in tried
        for limits, judged in zip(settings, of_limits)
    ]
    objective = options.objective or subject.objective
    outcome = decide(
        flat, subject.truth, subject.half(options), subject.groups(), objective, seed=options.seed
    )
    outcome.notes.extend(subject.notes)
    final = flat[outcome.chosen]
    written = subject.write(output, final.candidate.classifiers, final.limits)
    outcome.write(output)  # kept, should the evaluation be stopped
    if options.evaluate:
        for which, model, one in (
            ("start", subject.model, flat[0]),
            ("balanced", written.model, final),
        ):
            outcome.evaluated[which] = results_of(
                subject, model, one.candidate.classifiers, one.limits, output / which
            )
        outcome.write(output)
    seconds = time.monotonic() - started
    return Balanced(outcome, written.path, written.is_plain, seconds, tuple(left_out))


_Judged = tuple[Candidate, list[Any]]


def _evaluated(
    evaluation: Evaluation,
    kept: KeptCandidates,
    settings: Sequence[Any],
    candidates: Sequence[Candidate],
    images: int,
) -> list[_Judged]:
    """Return the candidates with what they found, those that are missing evaluated in one pass."""
    found = {candidate.name: kept.load(candidate.name) for candidate in candidates}
    missing = [candidate for candidate in candidates if found[candidate.name] is None]
    if missing:
        names = f"{len(missing)} candidates" if len(missing) > 1 else missing[0].name
        with tqdm(
            total=images, desc=names, unit="img", disable=None, leave=len(missing) > 1
        ) as bar:
            results = evaluation(missing, settings, on_image=bar.update)
        for candidate, judged in zip(missing, results):
            kept.save(candidate, judged)
            found[candidate.name] = (candidate, judged)
    return [pair for candidate in candidates if (pair := found[candidate.name]) is not None]


def _trained(
    subject: Subject,
    options: BalanceOptions,
    evaluation: Evaluation,
    kept: KeptCandidates,
    settings: Sequence[Any],
    todo: Sequence[Recipe],
    deadline: float,
    left_out: list[str],
) -> Iterator[_Judged]:
    """Yield trained candidates with what they found, as long as there is time; name the others."""
    images = len(subject.test_dicts)
    rows = subject.train_rows
    own, slowest = subject.own_classifiers(), 0.0
    if subject.has_logn:
        done = kept.load("LogN")
        if done is None:
            regions = training_regions(subject.cfg, todo[0], dtype=options.dtype, rows=rows)
            (logn,) = subject.calibrations(logit_moments(regions, own))
            (done,) = _evaluated(evaluation, kept, settings, [logn], images)
        yield done
    one = images * len(settings) * subject.rates.replay
    pending: list[Candidate] = []
    with tqdm(total=len(todo), desc="classifiers", unit="training", disable=None) as bar:
        for recipe in todo:
            done = kept.load(recipe.name)
            candidate = None if done else kept.load_trained(recipe.name)
            if done is not None:
                yield done
            elif candidate is None and time.monotonic() + slowest + one * len(pending) > deadline:
                left_out.append(recipe.name)
                continue
            elif candidate is None:
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
                else:
                    kept.save(candidate)
                slowest = max(slowest, time.monotonic() - begun + one)
            pending += [candidate] if candidate else []
            if len(pending) == _TOGETHER:
                yield from _evaluated(evaluation, kept, settings, pending, images)
                pending = []
            bar.update()
    yield from _evaluated(evaluation, kept, settings, pending, images)


def closing_words(balanced: Balanced) -> str:
    """Return where the files are, and how to go on."""
    plain = "plain Detectron2" if balanced.is_plain else "lt_det (lt-det train --eval-only)"
    return (
        f"{balanced.checkpoint} and balanced.yaml beside it are for {plain}; the table is "
        f"balance_table.csv. Took {duration(balanced.seconds)}."
    )
