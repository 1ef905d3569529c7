"""Write the page of runs, and its numbers as csv and json."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lt_det.evaluation.results import write_json
from lt_det.report.page import Section, save_page
from lt_det.report.run_page import analysis
from lt_det.report.run_page.classes import (
    class_rows,
    class_table,
    classifier_charts,
    gains_and_losses,
)
from lt_det.report.run_page.evaluating import differences, ground_truth_of, with_analysis
from lt_det.report.run_page.figures import Difference, summary_rows
from lt_det.report.run_page.found_objects import Finds, TestSet
from lt_det.report.run_page.frequency import against_frequency
from lt_det.report.run_page.headline import headline
from lt_det.report.run_page.learned import balance_parts, learned_weights
from lt_det.report.run_page.material import Material, first_run, gather
from lt_det.report.run_page.methods import methods_of
from lt_det.report.run_page.picture_store import PictureStore
from lt_det.report.run_page.provenance import data_line, provenance
from lt_det.report.run_page.results import results
from lt_det.report.run_page.run_folder import RunFolder, read_run_folder
from lt_det.report.run_page.scenes import BUDGET, class_scenes, rare_scenes
from lt_det.report.run_page.training_facts import training_facts
from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import check_regular
from lt_det.storage.writable_folder import check_writable_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageOptions:
    """What the user may choose.

    Attributes:
        task: "bbox", "segm" or "classification"; None takes masks before boxes.
        dataset: test set of runs that were evaluated on several; None takes the first.
        ground_truth: json of the test set; None takes the one that a config names.
        images: folder of its images; None likewise.
        train_json: json of the training set, for class counts; None takes those of checkpoints.
        pictures: whether images are shown.
        evaluate: whether detections without an analysis are evaluated.
        defaults: content of a config at its defaults, to tell which configs differ in their seeds
            only, and what others differ in; {} compares all keys.
    """

    task: str | None = None
    dataset: str | None = None
    ground_truth: str | None = None
    images: str | None = None
    train_json: str | None = None
    pictures: bool = True
    evaluate: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)


def save_run_page(
    runs: Sequence[tuple[str | None, str]], output: str, options: PageOptions | None = None
) -> list[str]:
    """Write ``report.html``, ``report.json`` and csv files of runs; return their paths.

    Args:
        runs: name for the page, or None, and folder; the first is what others are compared to.
        output: folder.
        options: see there.

    Raises:
        FileNotFoundError: if a folder has no results, or a file is missing.
        ValueError: if a run is given twice, a file is broken, detections do not belong to the json,
            or ``output`` cannot be written.
    """
    options = options or PageOptions()
    places = [os.path.realpath(folder) for _, folder in runs]
    for place, (_, folder) in enumerate(runs):
        if places[place] in places[:place]:
            raise ValueError(f"runs: {folder} is given twice, and would count as two seeds")
    check_writable_folder(output, name="output")
    for what in ("ground_truth", "train_json"):
        path = getattr(options, what)
        if path is not None and not os.path.isfile(path):
            check_regular(path)
            raise FileNotFoundError(f"{what}: {path} does not exist")
    if options.images is not None and not os.path.isdir(options.images):
        raise FileNotFoundError(f"images: {options.images} is no folder")
    read = [(name, read_run_folder(folder, dataset=options.dataset)) for name, folder in runs]
    facts = {run.folder: training_facts(run, train_json=options.train_json) for _, run in read}
    truth_json, image_root = ground_truth_of(
        [run for _, run in read], options.ground_truth, options.images
    )
    notes: list[str] = []
    if options.evaluate and truth_json is not None:
        stats = next((f.stats for f in facts.values() if f.stats), None)
        for place, (name, run) in enumerate(read):
            folder = os.path.join(output, "evaluated", str(place))
            new, said = with_analysis(
                run, truth_json, folder, stats=facts[run.folder].stats or stats
            )
            read[place] = (name, new)
            notes += said
    for _, run in read:
        if not run.results and run.balance is None:
            raise ValueError(
                f"{run.folder} has detections only: give the json of their test set with "
                "--ground-truth VAL.json (and the training set's with --train-json TRAIN.json)"
            )
    material = gather(methods_of(read, defaults=options.defaults), facts, task=options.task)
    found, said = differences(material)
    notes += said + analysis.notes(material)
    sections, entries = _sections(material, found, options, truth_json, image_root)
    os.makedirs(output, exist_ok=True)
    page = os.path.join(output, "report.html")
    first = [data_line(material)] if material.methods else []
    title = "Report: " + ", ".join(m.name for m in material.all_methods)
    save_page(title, sections, page, lead=[*first, *headline(material, found), *notes])
    return [page, *_numbers(material, found, entries, output)]


def _sections(
    material: Material,
    found: Sequence[Difference],
    options: PageOptions,
    truth_json: str | None,
    image_root: str | None,
) -> tuple[list[Section], list[dict[str, Any]]]:
    origin, entries = provenance(material, defaults=options.defaults)
    sections: list[Section | None] = [origin]
    if material.methods:
        rare, of_classes, store, pictured = _pictures(material, options, truth_json, image_root)
        sections += [
            results(material, found),
            against_frequency(material),
            gains_and_losses(material),
            class_table(material, pictured),
        ]
        if material.task != "classification":
            sections += [
                analysis.confusion(material),
                analysis.errors(material),
                analysis.calibration(material),
            ]
        sections += [
            classifier_charts(material),
            learned_weights(material),
            *balance_parts(material),
            rare,
            of_classes,
        ]
        if store is not None:
            sections.append(Section("", blocks=[store.html()]))
    else:
        sections += [learned_weights(material), *balance_parts(material)]
    return [section for section in sections if section is not None], entries


def _pictures(
    material: Material, options: PageOptions, truth_json: str | None, image_root: str | None
) -> tuple[Section | None, Section | None, PictureStore | None, set[int]]:
    if not options.pictures or material.task == "classification":
        return None, None, None, set()
    title = "Images of rare classes"
    if truth_json is None or image_root is None:
        line = "Not shown: give the test set with --ground-truth VAL.json --images DIR."
        return Section(title, anchor="images", short="Images", missing=[line]), None, None, set()
    finds, problems = _finds(material)
    if not finds:
        line = "Not shown: no run has a json of detections that can be read."
        return (
            Section(title, anchor="images", short="Images", missing=[line, *problems]),
            None,
            None,
            set(),
        )
    truth = TestSet.read(truth_json, image_root)
    store = PictureStore(BUDGET)
    rare = rare_scenes(material, truth, finds, store)
    of_classes, pictured = class_scenes(material, truth, finds, store)
    return rare, of_classes, store, pictured


def _finds(material: Material) -> tuple[dict[str, Finds], list[str]]:
    """Return the detections of the first run of each method, and why some are left out."""
    finds: dict[str, Finds] = {}
    problems = []
    for method in material.methods:
        run: RunFolder = first_run(method, material.task)
        if run.detections is None:
            continue
        try:
            finds[method.name] = Finds.read(run.detections)
        except ValueError as error:
            problems.append(f"{method.name}: {error}.")
    return finds, problems


def _numbers(
    material: Material,
    found: Sequence[Difference],
    entries: Sequence[Mapping[str, Any]],
    output: str,
) -> list[str]:
    groups, rows = summary_rows(material), class_rows(material)
    pairs = [asdict(one) for one in found]
    names = ("report.json", "groups.csv", "classes.csv", "differences.csv")
    paths = [os.path.join(output, name) for name in names]
    write_json(
        paths[0],
        {
            "task": material.task,
            "provenance": list(entries),
            "groups": groups,
            "differences": pairs,
            "classes": rows,
            "analyses": {method.name: content for method, content in analysis.analyses(material)},
            "balance": {
                m.name: r.balance for m in material.all_methods for r in m.runs if r.balance
            },
        },
    )
    written = paths[:1]
    for path, records in zip(paths[1:], (groups, rows, pairs)):
        if not records:
            continue
        with atomic_file(path) as file:
            writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
            writer.writerow({k: for_csv(k) for k in records[0]})
            writer.writerows(
                {k: "" if v is None or v != v else for_csv(v) for k, v in record.items()}
                for record in records
            )
        written.append(path)
    return written
