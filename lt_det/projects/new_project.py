"""New project: check data, make a recipe of them, and write its configs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lt_det.data.inspection.data_sets import Inspection, inspect_data_sets
from lt_det.data.inspection.findings import Finding
from lt_det.data.inspection.labelled_images import inspect_images
from lt_det.data.inspection.outlook import outlook_of
from lt_det.projects.classification_recipe import classification_recipe
from lt_det.projects.detection_recipe import detection_recipe
from lt_det.projects.facts import DetectionFacts, Files, facts_of_jsons
from lt_det.projects.image_facts import read_image_facts
from lt_det.projects.machine import Machine
from lt_det.projects.recipe import Recipe
from lt_det.projects.start_weights import backbone_weights, detector_weights
from lt_det.projects.yaml_file import yaml_text
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import check_regular

TaskName = Literal["segmentation", "detection", "classification"]


@dataclass(frozen=True)
class Project:
    """What was made of data.

    Attributes:
        task: kind of training.
        recipe: its stages.
        findings: of the inspection that are no errors, the worst first.
    """

    task: TaskName
    recipe: Recipe
    findings: tuple[Finding, ...] = ()


def detection_project(
    train: Sequence[str],
    val: Sequence[str],
    *,
    image_roots: Sequence[str],
    task: TaskName | None,
    machine: Machine,
    seconds: float,
    folder: str,
) -> Project:
    """Return the project of COCO- or LVIS-format jsons.

    Args:
        train: jsons trained on.
        val: jsons evaluated on.
        image_roots: folder of the images: one for all, or one for each json; none looks beside
            each json.
        task: None trains masks where all objects have one.
        machine: that trains.
        seconds: that all stages may take.
        folder: that the configs are for.

    Raises:
        FileNotFoundError: if a json or the images are not found.
        ValueError: if the data cannot be trained on; names the first things wrong.
        ImportError: if nothing is installed that evaluates.
    """
    for path in (*train, *val):
        if not os.path.isfile(path):
            check_regular(path)
            raise FileNotFoundError(f"there is no json {path!r} (--train, --val): correct the path")
    jsons = [*train, *val]
    roots = list(image_roots) * (len(jsons) if len(image_roots) == 1 else 1)
    roots = roots or [_images_beside(path) for path in jsons]
    inspection = inspect_data_sets(
        train,
        val,
        image_roots=roots,
        quick=True,
        masks="off" if task == "detection" else "auto",
    )
    _refuse(inspection, jsons, roots, masks_may_lack=task is None)
    mended = [file.mended or {} for file in inspection.files]
    train_content, val_content = mended[: len(train)], mended[len(train) :]
    if inspection.outlook is None:
        raise ValueError(f"--train {list(train)}: there is no class with an image to train on")
    files = [Files(path, root) for path, root in zip(jsons, roots)]
    facts = facts_of_jsons(
        train_content,
        val_content,
        stats=inspection.outlook.train,
        train_files=files[: len(train)],
        val_files=files[len(train) :],
    )
    masks, why = _masks(facts, task)
    if val:
        _check_evaluation()
    recipe = detection_recipe(
        facts,
        machine,
        detector_weights(machine, masks=masks),
        seconds=seconds,
        folder=folder,
        draws=lambda threshold: _draws(train_content, threshold),
        masks=masks,
        masks_reason=why,
    )
    kept = tuple(one for one in inspection.findings if one.harm != "error")
    return Project("segmentation" if masks else "detection", recipe, kept)


def classification_project(
    train: Sequence[str],
    val: Sequence[str],
    *,
    machine: Machine,
    seconds: float,
    folder: str,
) -> Project:
    """Return the project of images in class folders, or of a csv.

    Args:
        train: one folder of class folders, or of ``train`` and ``val`` with them, or one csv.
        val: the same, or nothing: then a split of ``train`` is taken, or images are held out.
        machine: that trains.
        seconds: that all stages may take.
        folder: that the configs are for.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if the data cannot be trained on.
    """
    facts = read_image_facts(train, val)
    inspection = inspect_images(train, val, quick=True)
    errors = [one for one in inspection.findings if one.harm == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        words = ["--train", *train, *(["--val", *val] if val else [])]
        raise ValueError(
            f"{errors[0].file}: {errors[0].text()}{more} Nothing was written. See all: "
            f"lt-det check-data {' '.join(words)}."
        )
    recipe = classification_recipe(
        facts, machine, backbone_weights(machine), seconds=seconds, folder=folder
    )
    return Project("classification", recipe, tuple(inspection.findings))


def write_project(project: Project, folder: Path) -> list[Path]:
    """Write a yaml for each stage; return their paths.

    Args:
        project: to write.
        folder: made if it is not there; one with files in it is refused.

    Raises:
        FileExistsError: if there is something in the way.
    """
    check_folder(folder)
    paths = []
    for stage in project.recipe.stages:
        path = folder / f"{stage.name}.yaml"
        with atomic_file(path) as file:
            file.write(yaml_text(stage))
        paths.append(path)
    return paths


def check_folder(folder: Path) -> None:
    """Raise if the folder of a new project is there with something in it, or is no folder.

    Raises:
        FileExistsError: says what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output {str(folder)!r} is a file: name another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"--output {str(folder)!r} is there already and not empty: name another folder, or "
            "remove it; nothing was overwritten"
        )


def _images_beside(path: str) -> str:
    """Return the folder of a json's images: ``images`` beside it, where that is, or its own."""
    folder = os.path.dirname(os.path.abspath(path))
    beside = os.path.join(folder, "images")
    return beside if os.path.isdir(beside) else folder


def _refuse(
    inspection: Inspection, jsons: Sequence[str], roots: Sequence[str], *, masks_may_lack: bool
) -> None:
    errors = [
        one
        for one in inspection.findings
        if one.harm == "error" and not (masks_may_lack and one.kind == "masks-mixed")
    ]
    if not errors:
        return
    num_val = sum(not file.train for file in inspection.files)
    num_train = len(jsons) - num_val
    words = ["--train", *jsons[:num_train], *(["--val", *jsons[num_train:]] if num_val else [])]
    folders = list(dict.fromkeys(roots)) if len(set(roots)) == 1 else list(roots)
    hint = " ".join(["lt-det check-data", *words, "--images", *folders])
    fix = " --fix OUT writes a mended copy." if any(one.mendable for one in errors) else ""
    more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
    raise ValueError(
        f"{errors[0].file}: {errors[0].text()}{more} Nothing was written. See all: {hint}.{fix}"
    )


def _masks(facts: DetectionFacts, task: TaskName | None) -> tuple[bool, str]:
    """Return whether to train masks, and why.

    Raises:
        ValueError: if they are asked for and not there.
    """
    lacking = [
        name
        for name, kind, there in (
            ("training", facts.masks, True),
            ("validation", facts.val_masks, bool(facts.val)),
        )
        if there and kind in ("none", "some")
    ]
    if task == "segmentation" and lacking:
        raise ValueError(
            f"--task segmentation, but not all objects of the {' and the '.join(lacking)} set have "
            "a mask ('segmentation'): draw them, or set --task detection"
        )
    if task == "detection":
        return False, "--task detection"
    if not lacking:
        return True, "every object has a mask"
    what = "no object" if facts.masks == "none" else "not every object"
    return False, f"{what} of the {' and the '.join(lacking)} set has a mask"


def _draws(contents: Sequence[dict], threshold: float) -> float:
    outlook = outlook_of(contents, (), threshold=threshold)
    return outlook.repeats.draws if outlook is not None else 1.0


def _check_evaluation() -> None:
    if importlib.util.find_spec("hotcoco") is None:
        raise ImportError(
            "AP needs the package hotcoco, which is not installed: pip install 'lt_det[eval]', or "
            "leave out --val"
        )
