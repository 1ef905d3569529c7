"""A trained model, found by its weights: config, names and ids of its classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from torch import nn

from lt_det.data.annotations.datasets import class_names_of
from lt_det.engine.evaluated_model import classes_of_checkpoint, load_evaluated_model
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.storage.regular_file import check_regular, open_regular
from lt_det.tasks import Task, build_task


@dataclass(frozen=True)
class TrainedRun:
    """A trained model before it is built.

    Attributes:
        cfg: config to build it from.
        task: detection or image classification.
        class_names: K names.
        category_ids: K ids of the training json, in the order of the classes.
        weights: file with its weights.
        notes: what the user should know, a sentence each.
    """

    cfg: Any
    task: Task
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    weights: str
    notes: list[str] = field(default_factory=list)

    def build(self, *, lowest_score: float | None = None) -> nn.Module:
        """Return the model in evaluation mode, its weights loaded.

        Args:
            lowest_score: what scores lower is not computed; None leaves that to the config. The
                detections above it are the same.

        Raises:
            ValueError: if config and weights do not fit each other.
        """
        cfg = self.cfg.clone()
        if lowest_score is not None:
            # Detectron2 keeps what is strictly above; the thresholds are applied afterwards.
            score = max(lowest_score - 1e-6, 0.0)
            cfg.defrost()
            cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = score
        model = LongTailTrainer.build_model(cfg)
        load_evaluated_model(cfg, model, resume=False)
        return model.eval()


def find_trained_run(
    weights: str | os.PathLike[str],
    *,
    config_file: str | None = None,
    options: Sequence[str] = (),
) -> TrainedRun:
    """Return a trained model by its weights; its training and test set need not be there.

    Args:
        weights: checkpoint, or the folder of a run, of which the last is taken.
        config_file: path or name; None is the ``config.yaml`` beside the weights.
        options: KEY VALUE pairs on top of it.

    Raises:
        FileNotFoundError: if there are no such weights, or no config beside them.
        ValueError: if config and weights do not fit each other.
    """
    path = _checkpoint_of(os.path.expanduser(os.fspath(weights)))
    config_file = config_file or _config_beside(path)
    cfg = read_config(config_file, [*options, "MODEL.WEIGHTS", path])
    notes = []
    device = str(cfg.MODEL.DEVICE)
    if device.startswith("cuda") and not torch.cuda.is_available():
        notes.append(f"MODEL.DEVICE is {device}, but there is no GPU here: predicted on the CPU.")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError("MODEL.LOAD_PROPOSALS: a model that is given its boxes cannot predict")
    transform = cfg.LT_DET.CLASSIFICATION.TRANSFORM
    if not transform.TEST_RESIZE:
        transform.TEST_RESIZE = transform.SIZE  # no change of images that have it already
    cfg.DATASETS.TEST = ()
    cfg, names = classes_of_checkpoint(cfg, resume=False)
    task = build_task(cfg)
    names, ids = _classes(config_file, options, task, names, notes)
    return TrainedRun(cfg, task, names, ids, path, notes)


def _checkpoint_of(path: str) -> str:
    """Return the checkpoint that a path means: itself, or the last one of a folder."""
    if "://" in path or not os.path.isdir(path):
        if "://" not in path and not os.path.lexists(path):
            raise FileNotFoundError(f"weights {path!r} do not exist: name a checkpoint (.pth)")
        if "://" not in path:
            check_regular(path)
        return path
    final = os.path.join(path, "model_final.pth")
    if os.path.isfile(final):
        return final
    try:
        with open_regular(os.path.join(path, "last_checkpoint"), "r", encoding="utf-8") as file:
            last = os.path.join(path, os.path.basename(file.read().strip()))
    except (OSError, ValueError):
        last = ""
    if not os.path.isfile(last):
        raise FileNotFoundError(
            f"folder {path!r} holds no checkpoint: no model_final.pth, and no last_checkpoint that "
            "names one"
        )
    return last


def _config_beside(weights: str) -> str:
    path = os.path.join(os.path.dirname(weights), "config.yaml")
    if "://" in weights or not os.path.isfile(path):
        raise FileNotFoundError(
            f"there is no config.yaml beside {weights!r}: name the config that it was trained "
            "with, by --config-file"
        )
    return path


def _classes(
    config_file: str,
    options: Sequence[str],
    task: Task,
    names: tuple[str, ...] | None,
    notes: list[str],
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and category ids; adds to the notes where they are not those of the training."""
    found: dict[int, int] | None = None
    first = next(iter(task.training_sets), None)
    if first is not None and (names is None or not task.one_class_an_image):
        try:
            load_config(config_file, options)  # for its data sets
            known = tuple(class_names_of(first))
            if names is None or known == names:
                names = known
                found = MetadataCatalog.get(first).get("thing_dataset_id_to_contiguous_id")
        except (KeyError, ValueError, OSError):
            pass  # the training set is not on this machine, or has changed
    if names is None:
        count = task.num_classes()
        names = tuple(f"class {k + 1}" for k in range(count))
        notes.append("The names of the classes are not known: the checkpoint does not have them.")
    if found is not None and sorted(found.values()) == list(range(len(names))):
        ids = {index: category_id for category_id, index in found.items()}
        return names, tuple(ids[k] for k in range(len(names)))
    if not task.one_class_an_image:
        notes.append(
            "The training json is not here: category ids are 1, 2, ... in the order of its ids."
        )
    return names, tuple(range(1, len(names) + 1))
