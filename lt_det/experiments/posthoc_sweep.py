"""Evaluate one trained model with many post-hoc settings.

Of an image classifier the features are computed once. A detector is evaluated once for each
setting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import nn
from tqdm import tqdm

from lt_det.config import default_keys
from lt_det.engine.checkpoint import ClassStatsState, LongTailCheckpointer
from lt_det.engine.evaluated_model import EvaluatedModel, evaluating, load_evaluated_model
from lt_det.engine.evaluators import build_evaluator, prepare_evaluation
from lt_det.engine.loading.build import build_test_loader
from lt_det.engine.startup.run_record import write_run_record
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.build_posthoc import (
    build_prior_corrections,
    read_logit_moments,
    warn_of_second_correction,
)
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier
from lt_det.modeling.classifiers.nearest_mean import ClassMeans
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.storage.atomic_write import atomic_file
from lt_det.tasks import build_class_stats, build_task

logger = logging.getLogger(__name__)

AS_TRAINED = "as trained"
TAU_NORM = "tau-norm"
LOGIT_ADJUSTMENT = "logit adjustment"
NORCAL = "NorCal"
FRACAL = "FRACAL"
LOGN = "LogN"
NEAREST_MEAN = "nearest class mean"
#: Method -> its key of LT_DET.POST_HOC.
_KEYS = {
    TAU_NORM: "TAU_NORM",
    LOGIT_ADJUSTMENT: "LOGIT_ADJUSTMENT",
    NORCAL: "NORCAL",
    FRACAL: "FRACAL",
    LOGN: "LOGN",
}


@dataclass(frozen=True)
class PostHocPoint:
    """One setting.

    Attributes:
        method: one of the above.
        tau: its strength (tau, NorCal's gamma, FRACAL's lambda), None if it has none.
    """

    method: str
    tau: float | None = None

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        name = self.method.lower().replace(" ", "_").replace("-", "_")
        return name if self.tau is None else f"{name}={self.tau:g}"


def post_hoc_points(
    *,
    tau_norm: Iterable[float] = (),
    logit_adjustment: Iterable[float] = (),
    norcal: Iterable[float] = (),
    fracal: Iterable[float] = (),
    logn: bool = False,
    nearest_mean: bool = False,
) -> list[PostHocPoint]:
    """Return the model as it was trained, then all settings.

    A strength of 0 is the model as trained, but for FRACAL, which then still shifts by frequency.

    Args:
        tau_norm: taus.
        logit_adjustment: taus.
        norcal: gammas.
        fracal: lambdas.
        logn: whether LogN is one.
        nearest_mean: whether the nearest class mean is one.

    Raises:
        ValueError: if two taus of a method differ by less than their folders' names show.
    """
    points = [PostHocPoint(AS_TRAINED)]
    for method, values in (
        (TAU_NORM, tau_norm),
        (LOGIT_ADJUSTMENT, logit_adjustment),
        (NORCAL, norcal),
        (FRACAL, fracal),
    ):
        taus = [tau for tau in dict.fromkeys(values) if tau or method == FRACAL]
        points += [PostHocPoint(method, tau) for tau in taus]
    if logn:
        points.append(PostHocPoint(LOGN))
    if nearest_mean:
        points.append(PostHocPoint(NEAREST_MEAN))
    check_folders_differ(points)
    return points


def classifies_images(cfg: Any) -> bool:
    """Return whether the model of a config is an image classifier: it has more to try."""
    return build_task(cfg).one_class_an_image


def check_folders_differ(points: Sequence[PostHocPoint]) -> None:
    """Raise if two points have the same folder.

    Raises:
        ValueError: names them.
    """
    by_name: dict[str, PostHocPoint] = {}
    for point in points:
        other = by_name.setdefault(point.name, point)
        if other != point:
            raise ValueError(
                f"{point.method} with tau {other.tau!r} and {point.tau!r} would have the same "
                f"folder, {point.name!r}: leave one of them out"
            )


@torch.no_grad()
def run_post_hoc_sweep(
    cfg: Any, points: Sequence[PostHocPoint], output: Path, *, moments: str = ""
) -> list[PostHocPoint]:
    """Evaluate MODEL.WEIGHTS with each setting; an image classifier in one pass over the test set.

    Each writes to ``output / point.name`` what an evaluation writes to OUTPUT_DIR. The nearest
    class mean, for which it takes one pass over the training set, without augmentation, leaves a
    checkpoint there too, for LT_DET.CLASSIFIER.NAME "cosine" and BIAS False.

    Args:
        cfg: config; DATASETS.TEST names one data set.
        points: settings.
        output: folder.
        moments: file of ``lt-det logit-moments`` for these weights, for LogN.

    Returns:
        The points that were evaluated: a cosine classifier has no tau-normalisation.

    Raises:
        ValueError: if a setting does not go with the model, there is not one test set, it was held
            out and the model trained on it all the same, the config has a post-hoc correction of
            its own, or two points have one folder.
    """
    _check_methods(cfg, points, moments=moments)
    if len(cfg.DATASETS.TEST) != 1:
        raise ValueError(f"DATASETS.TEST must name one data set, got {tuple(cfg.DATASETS.TEST)}")
    node, defaults = cfg.LT_DET.POST_HOC, default_keys().POST_HOC
    own = [f"LT_DET.POST_HOC.{key}" for key, value in node.items() if value != defaults[key]]
    if own:
        raise ValueError(f"{' and '.join(own)} would do nothing: this sweep has its own settings")
    check_folders_differ(points)
    points = _points_for(cfg, points)
    if not build_task(cfg).one_class_an_image:
        for point in points:
            of_point = _with_keys(cfg, point, output, moments=moments)
            with atomic_file(output / point.name / "config.yaml") as file:
                file.write(of_point.dump())
            LongTailTrainer.evaluate_checkpoint(of_point)
        return points
    cfg = prepare_evaluation(cfg, resume=False)
    model = build_model(cfg).eval()
    evaluated = load_evaluated_model(cfg, model, resume=False)
    stats = evaluated.class_stats or build_class_stats(cfg)
    counts = torch.from_numpy(stats.counts(cfg.LT_DET.CLASS_STATS.UNIT))
    corrections = {
        point: PostHocCorrection(
            tau_norm=(point.tau or 0.0) if point.method == TAU_NORM else 0.0,
            logit_adjustment=(point.tau or 0.0) if point.method == LOGIT_ADJUSTMENT else 0.0,
            norcal=(point.tau or 0.0) if point.method == NORCAL else 0.0,
            moments=read_logit_moments(moments) if point.method == LOGN else None,
            kind=model.criterion.kind,
            class_counts=counts,
        )
        for point in points
        if point.method != NEAREST_MEAN
    }
    (name,) = cfg.DATASETS.TEST
    evaluators = {}
    with evaluating(evaluated):
        for point in points:
            folder = str(output / point.name / "inference")
            evaluators[point] = build_evaluator(cfg, name, folder, class_stats=stats)
    nearest_mean: nn.Module | None = None
    for point in points:
        if point.method == NEAREST_MEAN:
            nearest_mean = _nearest_mean(cfg, model)
            _save_with(nearest_mean, model, output / point.name, ClassStatsState(stats))
    for batch in _batches(cfg, name, "test images"):
        features = model.features(model.images(batch))
        logits = model.cls_score(features)
        for point, evaluator in evaluators.items():
            if point in corrections:
                found = corrections[point](logits, model.cls_score, background=False)
            elif nearest_mean is not None:
                found = nearest_mean(features)
            evaluator.process(batch, model.predictions(found))
    for point, evaluator in evaluators.items():
        weights = f"{output / point.name}/model_final.pth" if point.method == NEAREST_MEAN else None
        described = EvaluatedModel(weights or evaluated.weights, evaluated.iterations, stats)
        record = cfg.clone()
        record.defrost()
        record.OUTPUT_DIR = str(output / point.name)
        with evaluating(described):
            write_run_record(record, evaluator.evaluate())
    return points


def _check_methods(cfg: Any, points: Sequence[PostHocPoint], *, moments: str) -> None:
    methods = {point.method for point in points}
    if LOGN in methods and not moments:
        raise ValueError(
            "LogN needs the moments of the logits of these weights: write them with "
            "lt-det logit-moments, and name the file with --logn"
        )
    if build_task(cfg).one_class_an_image:
        if FRACAL in methods:
            raise ValueError(
                "FRACAL is of the boxes of a detector, and images to classify have none: leave it "
                "out, or take logit adjustment"
            )
    elif NEAREST_MEAN in methods:
        raise ValueError(
            "the nearest class mean is for MODEL.META_ARCHITECTURE LongTailImageClassifier, got "
            f"{cfg.MODEL.META_ARCHITECTURE!r}: leave it out"
        )


def _with_keys(cfg: Any, point: PostHocPoint, output: Path, *, moments: str) -> Any:
    """Return a config that evaluates a detector with one setting."""
    cfg = cfg.clone()
    cfg.defrost()
    if point.method in _KEYS:
        value = moments if point.method == LOGN else point.tau
        cfg.LT_DET.POST_HOC[_KEYS[point.method]] = value
    cfg.OUTPUT_DIR = str(output / point.name)
    cfg.LT_DET.EVAL.PICTURES = False
    cfg.freeze()
    return cfg


def _points_for(cfg: Any, points: Sequence[PostHocPoint]) -> list[PostHocPoint]:
    """Return the points that change anything, and warn of some others."""
    if any(point.method in (LOGIT_ADJUSTMENT, NORCAL, FRACAL) for point in points):
        warn_of_second_correction(build_prior_corrections(cfg))
    if cfg.LT_DET.CLASSIFIER.NAME != "cosine":
        return list(points)
    left = [point for point in points if point.method != TAU_NORM]
    if len(left) < len(points):
        logger.warning(
            "No tau-normalisation: LT_DET.CLASSIFIER.NAME 'cosine' normalises its weights already"
        )
    return left


def _batches(cfg: Any, name: str, what: str) -> Iterable[list[dict]]:
    loader = build_test_loader(cfg, name)
    return tqdm(loader, total=len(loader), desc=what, unit="batch", disable=None)


def _nearest_mean(cfg: Any, model: LongTailImageClassifier) -> nn.Module:
    weight = model.cls_score.weight
    means = ClassMeans(num_classes=weight.shape[0], num_features=weight.shape[1])
    for name in cfg.DATASETS.TRAIN:
        for batch in _batches(cfg, name, "training images"):
            means.add(model.features(model.images(batch)), model.labels(batch))
    return means.classifier(scale=cfg.LT_DET.CLASSIFIER.SCALE).to(model.device)


def _save_with(
    classifier: nn.Module,
    model: LongTailImageClassifier,
    folder: Path,
    class_stats: ClassStatsState,
) -> None:
    """Write ``model`` with another classifier to ``folder / "model_final.pth"``."""
    trained = model.cls_score
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model.cls_score = classifier
        LongTailCheckpointer(model, str(folder), class_stats=class_stats).save("model_final")
    finally:
        model.cls_score = trained
