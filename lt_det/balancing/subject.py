"""Say what a balance needs of the model that it works on, whatever kind of model that is."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectron2.data import MetadataCatalog
from torch import nn

from lt_det.balancing.candidates import Candidate, Fitting, Recipe, recipes
from lt_det.balancing.choice import Objective, balanced_halves
from lt_det.balancing.evaluation_cache import EvaluationCache
from lt_det.balancing.export import Written
from lt_det.balancing.kept import annotations_digest
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.outcome import classes_of
from lt_det.balancing.plan import Rates, Sizes
from lt_det.balancing.replay import Classifiers, PostProcessing
from lt_det.balancing.truth import Truth
from lt_det.data.annotations.datasets import check_registered
from lt_det.data.images.datasets import share_images
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.evaluated_model import EvaluatedModel
from lt_det.engine.evaluators import prepare_evaluation
from lt_det.modeling.calibration import LogitMoments
from lt_det.storage.digest import hash_file

#: candidates, limits, what to call after an image -> for each candidate what it found with each.
Evaluation = Callable[..., list[list[Any]]]


@dataclass(frozen=True)
class Subject(abc.ABC):
    """All that is fixed during a balance.

    Attributes:
        cfg: config; OUTPUT_DIR is the output folder, DATASETS.TEST the set that is chosen on.
        model: with its weights, in evaluation mode.
        evaluated: what its file says of it.
        stats: class statistics of the training set.
        choose_on: data set.
        truth: of the images that are chosen on.
        test_dicts: these images.
        train_dicts: all training images.
        train_rows: of them, those to train on; None is all.
        cache: of the test images; None for dense detectors, which run once for all candidates.
        rates: measured.
        notes: sentences for the reader.
        planned: sizes, without the numbers of classifiers.
    """

    cfg: Any
    model: nn.Module
    evaluated: EvaluatedModel
    stats: ClassStats
    choose_on: str
    truth: Truth
    test_dicts: Sequence[dict]
    train_dicts: Sequence[dict]
    train_rows: list[int] | None
    cache: EvaluationCache | None
    rates: Rates
    notes: list[str]
    planned: Sizes

    #: Dataclass of arrays that :meth:`evaluation` returns.
    judged: ClassVar[type]
    #: Where none is asked for.
    objective: ClassVar[Objective]

    @property
    @abc.abstractmethod
    def fitting(self) -> Fitting:
        """What it asks of a loss."""

    @abc.abstractmethod
    def own_classifiers(self) -> Classifiers:
        """Return copies of the classifiers that it was trained with."""

    @abc.abstractmethod
    def calibrations(self, moments: Sequence[LogitMoments] = ()) -> list[Candidate]:
        """Return the calibrations to try; with the moments of its logits, LogN alone."""

    @abc.abstractmethod
    def settings(self, options: BalanceOptions) -> Sequence[PostProcessing | None]:
        """Return the limits to try, its own first; a single None where there are none."""

    @abc.abstractmethod
    def groups(self) -> Sequence[str | None]:
        """Return "r", "c" or "f" of each class of the ground truth."""

    @abc.abstractmethod
    def evaluation(self) -> Evaluation:
        """Return what evaluates candidates; fills the cache."""

    @abc.abstractmethod
    def write(
        self, folder: Path, classifiers: Classifiers, setting: PostProcessing | None
    ) -> Written:
        """Write ``balanced.pth`` and ``balanced.yaml``."""

    @property
    def can_train(self) -> bool:
        """Whether classifiers can be trained, from cached features."""
        return self.cache is not None

    @property
    def has_logn(self) -> bool:
        """Whether LogN can be folded into its classifiers."""
        fitting = self.fitting
        is_softmax = fitting.kind == fitting.scoring == "softmax"
        return self.can_train and is_softmax and not fitting.cosine

    def recipes(self, options: BalanceOptions) -> list[Recipe]:
        """Return the classifiers to train.

        Raises:
            KeyError: if there is no such loss.
            ValueError: if one does not fit.
        """
        if not (options.train and self.can_train):
            return []
        found = recipes(self.fitting, tau=options.tau)
        names = {recipe.name for recipe in found}
        asked: list[Recipe] = []
        if options.losses:
            asked = recipes(self.fitting, losses=options.losses, tau=options.tau)
        return [*(recipe for recipe in asked if recipe.name not in names), *found]

    def missing(self) -> int:
        """Return how many test images the model has to see."""
        return len(self.test_dicts) if self.cache is None else self.cache.missing()

    def sizes(self, calibrations: int, recipes: int) -> Sizes:
        """Return the sizes of the plan with these numbers of classifiers."""
        train = self.planned.train_images if recipes else 0
        return replace(self.planned, calibrations=calibrations, recipes=recipes, train_images=train)

    def about(self, options: BalanceOptions) -> dict[str, Any]:
        """Return what must be the same where finished candidates are used again."""
        kept = ("iterations", "dtype", "score_thresholds", "nms_thresholds")
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = ""
        return {
            "MODEL.WEIGHTS": hash_file(self.cfg.MODEL.WEIGHTS),
            "config": cfg.dump(),
            "--choose-on": self.choose_on,
            "test images": [record["image_id"] for record in self.test_dicts],
            "training images": self.train_rows,
            "--images": options.images,
            "annotations of the test images": self.truth.digest(),
            "annotations of the training images": annotations_digest(self.train_dicts),
            **{f"--{key.replace('_', '-')}": asdict(options)[key] for key in kept},
        }

    def half(self, options: BalanceOptions) -> np.ndarray:
        """Return ``(I,)`` bool: the images of one half.

        Raises:
            ValueError: if the objective is of another kind of model, or one of the halves has no
                image of any class that it is the mean of.
        """
        objective = options.objective or self.objective
        if objective.metrics is not self.objective.metrics:
            raise ValueError(
                f"objective {objective.metric}: this model has "
                f"{', '.join(self.objective.metrics)}; the others are of another kind of model"
            )
        by_class = self.truth.images_by_class()
        half = balanced_halves(by_class, total=len(self.test_dicts), seed=options.seed)
        wanted = classes_of(objective, self.groups())
        for side in (half, ~half):
            if not any(side[by_class[k]].any() for k in wanted):
                raise ValueError(
                    f"objective {objective.metric}: {self.choose_on} has too few images of these "
                    f"classes, in one of the two halves none: choose on another set, or by "
                    f"--objective {next(iter(objective.metrics))}"
                )
        return half


def checked_config(
    cfg: Any, options: BalanceOptions, output: Path, *, what: str
) -> tuple[Any, list[str]]:
    """Return the config of the balance, and what is to be said of its data sets.

    Args:
        cfg: of the model.
        options: what to try.
        output: folder.
        what: kind of model, in words.

    Raises:
        FileNotFoundError: if there is no file of weights.
        ValueError: if weights or data sets are not named, or cannot be used.
        KeyError: if a data set is not registered.
    """
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(f"MODEL.WEIGHTS is empty: give the checkpoint of the {what} to balance")
    if "://" not in cfg.MODEL.WEIGHTS and not os.path.isfile(cfg.MODEL.WEIGHTS):
        raise FileNotFoundError(
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS!r} is no file: give the checkpoint of the {what} to "
            "balance"
        )
    name = options.choose_on
    if not name:
        if len(cfg.DATASETS.TEST) != 1:
            raise ValueError(
                f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} data sets, "
                f"{tuple(cfg.DATASETS.TEST)}: say which to choose on with --choose-on NAME"
            )
        (name,) = cfg.DATASETS.TEST
    check_registered(name)
    for key in ("json_file", "image_source"):
        wanted = (key == "image_source") == (what == "image classifier")
        if wanted and not MetadataCatalog.get(name).get(key):
            raise ValueError(
                f"--choose-on {name} has no json of annotations in its metadata"
                if key == "json_file"
                else f"--choose-on {name} is no data set of images to classify: name one of "
                "LT_DET.CLASSIFICATION.DATASETS, or NAME_held_out with HELD_OUT"
            )
    notes = []
    if any(share_images(name, trained) for trained in cfg.DATASETS.TRAIN):
        notes.append(
            f"{name} is what the {what} was trained on: it has seen these images, so all figures "
            "are too high, the more so the longer a candidate was trained, and the choice says "
            "little about other images."
        )
    reported = [other for other in cfg.DATASETS.TEST if not share_images(name, other)]
    if not reported:
        notes.append(
            f"{name} is chosen on and reported on: only the cross-fitted gain is free of the "
            "choice; the figures of the table are not."
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (name,)
    cfg.OUTPUT_DIR = str(output)
    cfg.LT_DET.PATCH = cfg.LT_DET.DECOUPLED = cfg.LT_DET.RESET_CLASSIFIER = False
    cfg.LT_DET.META.ENABLED = cfg.LT_DET.REGION_CACHE.ENABLED = False
    if cfg.SEED < 0:
        cfg.SEED = options.seed
    cfg.freeze()
    return prepare_evaluation(cfg, resume=False), notes
