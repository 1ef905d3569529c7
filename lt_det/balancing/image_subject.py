"""Balance of an image classifier: its features, labels, and a checkpoint with another classifier.

There is no background, no box and no limit: the figure of a class is its accuracy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from lt_det.balancing.candidates import Candidate, Fitting, calibrations
from lt_det.balancing.choice import Objective
from lt_det.balancing.evaluation_cache import EvaluationCache
from lt_det.balancing.export import Written
from lt_det.balancing.image_replay import FrozenFeatures, ImageEvaluation, ImageReplay
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.rates import image_rates
from lt_det.balancing.replay import Classifiers, PostProcessing
from lt_det.balancing.subject import Evaluation, Subject, checked_config
from lt_det.balancing.subsets import some_images
from lt_det.balancing.truth import ImageTruth, Predicted
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.checkpoint import ClassStatsState
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.regions.store import DTYPES
from lt_det.losses import get_loss
from lt_det.modeling.calibration import LogitMoments
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import open_regular
from lt_det.tasks import build_class_stats

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSubject(Subject):
    """An image classifier.

    Attributes:
        replay: what is left of it after the features.
        part: what is cached of the test images.
    """

    truth: ImageTruth
    cache: EvaluationCache
    replay: ImageReplay
    part: FrozenFeatures

    judged: ClassVar[type] = Predicted
    objective: ClassVar[Objective] = Objective("mean_class", "")

    @property
    def fitting(self) -> Fitting:
        """See :class:`Subject`."""
        spec = get_loss(self.cfg.LT_DET.LOSS)
        scoring = spec.scoring(background=False)
        return Fitting(spec.kind, scoring, background=False, cosine=self.replay.is_cosine)

    def own_classifiers(self) -> Classifiers:
        """See :class:`Subject`."""
        return self.replay.own_classifiers()

    def calibrations(self, moments: Sequence[LogitMoments] = ()) -> list[Candidate]:
        """See :class:`Subject`."""
        counts = torch.from_numpy(self.stats.counts("image"))
        return calibrations(
            self.own_classifiers(),
            counts,
            kind=self.fitting.kind,
            moments=moments,
            scales=not self.replay.is_cosine,
        )

    def settings(self, options: BalanceOptions) -> list[None]:
        """See :class:`Subject`."""
        del options
        return [None]

    def groups(self) -> Sequence[str | None]:
        """See :class:`Subject`."""
        return self.stats.frequency_groups

    def evaluation(self) -> Evaluation:
        """See :class:`Subject`."""
        return ImageEvaluation(self.replay, self.cache.fill(), batch=self.part.batch)

    def write(
        self, folder: Path, classifiers: Classifiers, setting: PostProcessing | None
    ) -> Written:
        """See :class:`Subject`; the checkpoint is one as trainings write, with the class counts."""
        del setting
        path = folder.absolute() / "balanced.pth"
        ((weight, bias),) = classifiers
        cfg = self.cfg.clone()
        cfg.defrost()
        node = cfg.LT_DET.CLASSIFIER
        node.NAME = "cosine" if self.replay.is_cosine else "linear"
        node.BIAS = self.replay.has_bias or bool(bias.any())
        cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(path), os.path.join(folder.absolute(), "evaluation")
        cfg.freeze()
        model = build_model(cfg).eval()
        # The factors of "lws" are in the weights; without them in the file they are 1.
        trained = self.model.state_dict()
        state = {k: v.detach().cpu() for k, v in trained.items() if k != "cls_score.class_scale"}
        state["cls_score.weight"] = weight
        if node.BIAS:
            state["cls_score.bias"] = bias
        model.load_state_dict(state)  # strict: nothing is missing, all shapes fit
        content: dict[str, Any] = {
            "model": state,
            "class_stats": ClassStatsState(self.stats).state_dict(),
        }
        if self.evaluated.iterations is not None:
            content["iteration"] = self.evaluated.iterations - 1
        with atomic_file(path, "wb") as file:
            torch.save(content, file)
        with atomic_file(folder / "balanced.yaml") as file:
            file.write(f"# For lt-det train --eval-only --config-file.\n{cfg.dump()}")
        return Written(path, False, model)


def build_image_subject(cfg: Any, options: BalanceOptions, output: Path) -> ImageSubject:
    """Return what is balanced, images chosen so that they fit into time and disk.

    Raises:
        ValueError: if the classifier, its weights or the data set cannot be used; says why.
        KeyError: if the data set is not registered.
    """
    if options.dtype not in DTYPES:
        raise ValueError(f"--dtype must be one of {sorted(DTYPES)}, got {options.dtype!r}")
    cfg, notes = checked_config(cfg, options, output, what="image classifier")
    name = cfg.DATASETS.TEST[0]
    model = build_model(cfg).eval()
    with open_regular(cfg.MODEL.WEIGHTS):
        evaluated = load_evaluated_model(cfg, model, resume=False)
    replay = ImageReplay(model)
    stats = evaluated.class_stats or build_class_stats(cfg)
    part = FrozenFeatures(cfg, model, replay)
    test_dicts, train_dicts = DatasetCatalog.get(name), list(build_train_dicts(cfg))
    rates = image_rates(cfg, model, replay, part.mapper, test_dicts, train_dicts)
    ((weight, _),) = replay.own_classifiers()
    size = weight.shape[1] * torch.zeros(0, dtype=DTYPES[options.dtype]).element_size() + 4
    chosen = some_images(
        cfg,
        options,
        output,
        notes,
        rates,
        test=(test_dicts, _truth(test_dicts, stats.num_classes).images_by_class()),
        train_dicts=train_dicts,
        num_classes=stats.num_classes,
        settings=1,
        test_bytes=size,
        train_bytes=size * cfg.LT_DET.REGION_CACHE.EPOCHS,
    )
    if not replay.has_bias:
        notes.append(
            "The classifier has no bias: where a correction needs one, balanced.yaml has "
            "LT_DET.CLASSIFIER.BIAS True."
        )
    return ImageSubject(
        cfg=cfg,
        model=model,
        evaluated=evaluated,
        replay=replay,
        part=part,
        stats=stats,
        choose_on=name,
        truth=_truth(chosen.test_dicts, stats.num_classes),
        test_dicts=chosen.test_dicts,
        train_dicts=train_dicts,
        train_rows=chosen.train_rows,
        cache=EvaluationCache(
            cfg, model, chosen.test_dicts, part, beside=str(output), dtype=options.dtype
        ),
        rates=rates,
        notes=notes,
        planned=chosen.sizes,
    )


def _truth(dicts: Sequence[dict], num_classes: int) -> ImageTruth:
    labels = np.array([record["category_id"] for record in dicts], dtype=np.int64)
    return ImageTruth(labels, num_classes)
