"""Read what a run's training knew and learned: class counts, classifier, meta weights."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.array_unpickler import BROKEN_FILE, ArrayUnpickler
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.data.stats.stats_cache import class_stats_of_json
from lt_det.report.run_page.run_folder import RunFolder
from lt_det.storage.regular_file import open_regular
from lt_det.storage.tensor_file import load_open_tensors

_ENDS = ("cls_score.weight", "cls_logits.weight")


@dataclass(frozen=True)
class Classifier:
    """Rows of a linear classifier.

    Attributes:
        norms: ``(K,)`` float64, length of the weight vector of each class.
        biases: ``(K,)`` float64; None where it has none.
        key: name of the weights in the checkpoint.
    """

    norms: np.ndarray
    biases: np.ndarray | None
    key: str


@dataclass(frozen=True)
class TrainingFacts:
    """What is known of the training of a run.

    Attributes:
        stats: class counts of the training set; None if nothing says them.
        classifier: of the checkpoint; None without.
        checkpoint: file, None without.
        problem: why there is no classifier, "" where there is one.
    """

    stats: ClassStats | None
    classifier: Classifier | None
    checkpoint: str | None
    problem: str


def training_facts(run: RunFolder, *, train_json: str | None = None) -> TrainingFacts:
    """Return what the files of a run say of its training.

    Args:
        run: read folder.
        train_json: annotations of the training set, whose counts go before those of the
            checkpoint.

    Raises:
        ValueError: if ``train_json`` is no such file.
    """
    path = _checkpoint(run)
    content, problem = (None, "no checkpoint is in the folder") if path is None else _load(path)
    stats = None
    if train_json is not None:
        stats = class_stats_of_json(train_json, name=os.path.basename(train_json))
    elif content is not None and "class_stats" in content:
        try:
            stats = ClassStats.from_dict(content["class_stats"])
        except (ValueError, TypeError):
            problem = problem or "the class counts in the checkpoint are of another version"
    stats = stats or _registered(run, "TRAIN")
    classifier = None if content is None else _classifier(content, stats)
    if classifier is None and not problem:
        problem = f"{path} has no linear classifier named cls_score"
    return TrainingFacts(stats, classifier, path, problem)


def registered_json(run: RunFolder, which: str, name: str | None = None) -> tuple[str, str] | None:
    """Return json and image folder of a data set that the config registers, None if not there.

    Args:
        run: read folder.
        which: "TRAIN" or "TEST".
        name: of the data set; None takes the first of DATASETS.<which>.
    """
    used = run.config.training_sets if which == "TRAIN" else run.config.test_sets
    return run.config.registered([name] if name in used else used[:1])


def meta_weights(run: RunFolder) -> tuple[str, dict[str, tuple[list[float], list[float]]]]:
    """Return what the meta learner learned: "weight" or "rate", and its means by group over time.

    Args:
        run: read folder.

    Returns:
        the word, and "r", "c", "f" -> iterations and values relative to the mean over classes.
    """
    for word in ("weight", "rate"):
        series = {}
        for group, name in GROUP_NAMES.items():
            key = f"meta/{word}_{name}"
            points = [(line.get("iteration"), line.get(key)) for line in run.metrics]
            fine = [(x, y) for x, y in points if _is_number(x) and _is_number(y)]
            if fine:
                series[group] = ([float(x) for x, _ in fine], [float(y) for _, y in fine])  # type: ignore[arg-type]
        if series:
            return word, series
    return "", {}


def final_meta_weights(run: RunFolder) -> list[tuple[str, str, float, float]]:
    """Return name, group, training images and learned weight or rate of each class, [] without."""
    for word in ("weight", "rate"):
        path = os.path.join(run.folder, f"class_{word}s.json")
        if not os.path.isfile(path):
            continue
        try:
            with open_regular(path, "r", encoding="utf-8") as file:
                content = json.load(file)
            return [
                (str(name), str(one["group"]), float(one["image_count"]), float(one[word]))
                for name, one in content.items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _checkpoint(run: RunFolder) -> str | None:
    """Return the file that was evaluated, else the last of the folder."""
    weights = run.record.get("weights")
    names = ["model_final.pth", "balanced.pth"]
    try:
        with open_regular(
            os.path.join(run.folder, "last_checkpoint"), "r", encoding="utf-8"
        ) as file:
            names.append(os.path.basename(file.read(1000).strip()))
    except (OSError, ValueError):
        pass
    paths = [weights] if isinstance(weights, str) else []
    if isinstance(weights, str):  # the folder may have moved
        paths.append(os.path.join(run.folder, os.path.basename(weights)))
    paths += [os.path.join(run.folder, name) for name in names if name]
    return next((path for path in paths if os.path.isfile(path)), None)


def _load(path: str) -> tuple[Mapping[str, Any] | None, str]:
    try:
        with open_regular(path) as file:
            if path.endswith(".pkl"):
                content = ArrayUnpickler(file, encoding="latin1").load()
            else:
                content = load_open_tensors(file)
    except (*BROKEN_FILE, pickle.UnpicklingError, OSError, ValueError, RuntimeError) as error:
        return None, f"{path} could not be read ({type(error).__name__})"
    if not isinstance(content, Mapping):
        return None, f"{path} is no checkpoint"
    return content, ""


def _classifier(content: Mapping[str, Any], stats: ClassStats | None) -> Classifier | None:
    model = content.get("model", content)
    if not isinstance(model, Mapping):
        return None
    keys = [k for k in model if isinstance(k, str) and k.endswith(_ENDS)]
    for key in reversed(keys):  # the last stage of a cascade
        weight = np.asarray(model[key], dtype=np.float64)
        bias = model.get(key.removesuffix("weight") + "bias")
        rows = weight.reshape(len(weight), -1)
        vector = None if bias is None else np.asarray(bias, dtype=np.float64)
        if stats is not None:
            count = stats.num_classes
            if len(rows) == count or (weight.ndim == 2 and len(rows) > count):
                rows, vector = rows[:count], None if vector is None else vector[:count]
            elif len(rows) % count == 0:  # RetinaNet: anchors, then classes
                rows = rows.reshape(-1, count, rows.shape[1]).transpose(1, 0, 2).reshape(count, -1)
                vector = None if vector is None else vector.reshape(-1, count).mean(axis=0)
            else:
                continue
        return Classifier(np.linalg.norm(rows, axis=1), vector, key)
    return None


def _registered(run: RunFolder, which: str) -> ClassStats | None:
    found = registered_json(run, which)
    if found is None:
        return None
    try:
        return class_stats_of_json(found[0], name=os.path.basename(found[0]))
    except (OSError, ValueError):
        return None
