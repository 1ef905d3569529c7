"""Evaluate detections of folders that have no results of their own, and compare runs."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace

from lt_det.data.stats.class_stats import ClassStats
from lt_det.evaluation.analysis.comparison import compare_runs
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.lvis.json_evaluation import evaluate_lvis
from lt_det.report.run_page.figures import Difference, point_differences
from lt_det.report.run_page.material import Material
from lt_det.report.run_page.methods import Method
from lt_det.report.run_page.run_folder import Evaluated, RunFolder, evaluated_in

logger = logging.getLogger(__name__)

_METRICS = {"all": "AP", "r": "APr", "c": "APc", "f": "APf"}
_VERDICTS = {"b is higher": "higher", "b is lower": "lower"}
# Points by which LVIS's rules may differ from the recorded AP before the page says so.
_ALIKE = 0.05


def with_analysis(
    run: RunFolder, ground_truth: str, folder: str, *, stats: ClassStats | None
) -> tuple[RunFolder, list[str]]:
    """Return a run whose detections were evaluated, where its folder has no such results.

    AP that the run has recorded itself stays; the rest is by LVIS's rules, which are COCO's for a
    json without lists of absent classes, but for the limit of 300 detections.

    Args:
        run: read folder.
        ground_truth: json of the test set.
        folder: where the files of the evaluation go.
        stats: class counts of the training set, None to take "frequency" of the json.

    Returns:
        the run, and what to say of it.

    Raises:
        ValueError: if the detections do not belong to the json.
    """
    if run.detections is None or (
        run.results and all(e.analysis and e.categories for e in run.results.values())
    ):
        return run, []
    logger.info("Evaluating %s", run.detections)
    evaluate_lvis(
        ground_truth, run.detections, stats=stats, output_dir=folder, analysis=AnalysisOptions()
    )
    found, notes, results = evaluated_in(folder), [], dict(run.results)
    for task, new in found.items():
        own = results.get(task)
        if own is None or not own.categories:
            results[task] = new
            continue
        results[task] = replace(own, analysis=new.analysis, matches=new.matches)
        here, there = own.summary.get("AP"), new.summary.get("AP")
        if here is not None and there is not None and abs(here - there) > _ALIKE:
            notes.append(
                f"{run.folder}: {task} AP is {here:.1f} as recorded and {there:.1f} by the rules "
                "of the intervals (LVIS, 300 detections an image)."
            )
    return replace(run, results=results), notes


def differences(material: Material, *, resamples: int = 1000) -> tuple[list[Difference], list[str]]:
    """Return the differences to the first method, with intervals where both runs have matches.

    Runs are compared in pairs: of one seed where both methods have the same, else the first with
    the first; a single run with each of the other method. Where runs are left over there are the
    differences of the means, without intervals.

    Args:
        material: of the page.
        resamples: of the images.

    Returns:
        the differences, and what to say of pairs that could not be compared.
    """
    if len(material.methods) < 2:
        return [], []
    base, found, notes = material.methods[0], [], []
    task = material.task or ""
    points = point_differences(material)
    for method in material.methods[1:]:
        pairs = _pairs(base, method, task)
        if not pairs:
            notes.append(
                f"{method.name} has {len(method.evaluations(task))} runs, {base.name} "
                f"{len(base.evaluations(task))}: their differences are of the means, without "
                "intervals. Give as many seeds of each for intervals."
            )
        own: list[Difference] = []
        for seed, one, other in pairs:
            if one.matches is None or other.matches is None:
                continue
            try:
                comparison = compare_runs(
                    one.matches, other.matches, iou_type=task, resamples=resamples
                )
            except ValueError as error:
                notes.append(f"{method.name}: {error}.")
                continue
            for row in comparison.rows:
                metric = _METRICS.get(row["group"])
                if row["metric"] == "AP" and metric in material.metrics:
                    numbers = (row["difference"], row["low"], row["high"])
                    verdict = _VERDICTS.get(row["verdict"], row["verdict"])
                    shown_seed = seed if len(pairs) > 1 else ""
                    own.append(
                        Difference(
                            method.name, base.name, shown_seed, str(metric), *numbers, str(verdict)
                        )
                    )
        if len({o.seed for o in own}) < len(pairs) or not own:  # no pair, or not all: no half truth
            own = [p for p in points if p.method == method.name]
        found += own
    return [d for d in found if math.isfinite(d.value)], notes


def _pairs(base: Method, method: Method, task: str) -> list[tuple[str, Evaluated, Evaluated]]:
    """Return seed and evaluations of the runs to compare, [] where some would be left over."""
    ours, theirs = ([run for run in m.runs if task in run.results] for m in (base, method))
    if len(ours) == 1 or len(theirs) == 1:
        shown = theirs if len(ours) == 1 else ours
        ours, theirs = ours * len(theirs), theirs * len(ours)
    elif len(ours) != len(theirs):
        return []
    else:
        seeds = [[str(run.config.seed) for run in runs] for runs in (ours, theirs)]
        if len({*seeds[0]}) == len(ours) and {*seeds[0]} == {*seeds[1]}:
            theirs = [theirs[seeds[1].index(seed)] for seed in seeds[0]]
        shown = theirs
    names = [str(i if r.config.seed is None else r.config.seed) for i, r in enumerate(shown)]
    return [
        (s, one.results[task], other.results[task]) for s, one, other in zip(names, ours, theirs)
    ]


def ground_truth_of(
    runs: Sequence[RunFolder], given: str | None, images: str | None
) -> tuple[str | None, str | None]:
    """Return json and image folder of the test set: what was given, else what a config names.

    Args:
        runs: read folders.
        given: json that the user named.
        images: folder that the user named.
    """
    from lt_det.report.run_page.training_facts import registered_json

    for run in runs:
        names = [str(e.about.get("dataset")) for e in run.results.values()]
        found = registered_json(run, "TEST", names[0] if names else None)
        if found is not None and (
            given is None or os.path.realpath(found[0]) == os.path.realpath(given)
        ):
            return given or found[0], images or found[1]
    return given, images or (os.path.dirname(os.path.abspath(given)) if given else None)
