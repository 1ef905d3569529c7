"""Train and evaluate methods on the frozen regions of one stage 1, each once."""

from __future__ import annotations

import copy
import json
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng
from tqdm import tqdm

from demo.masks import mask_figures
from demo.methods import PLAIN, START, Method
from lt_det.balancing.candidates import Candidate, Recipe, calibrations
from lt_det.balancing.choice import balanced_halves, resamples
from lt_det.balancing.detector_subject import DetectorSubject, build_detector_subject
from lt_det.balancing.evaluation import CandidateEvaluation
from lt_det.balancing.frozen_images import FrozenImage
from lt_det.balancing.kept import check_same_balance
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.replay import Replay
from lt_det.balancing.training import (
    logit_moments,
    quiet,
    trained_detector,
    training_config,
    training_regions,
)
from lt_det.data.stats.fractal_dimension import box_centres, fractal_dimensions
from lt_det.engine.startup.setup import load_config
from lt_det.evaluation.analysis.weighted_ap import group_means
from lt_det.storage.atomic_write import atomic_file

logger = logging.getLogger(__name__)

#: Of each second stage: 1000 * 16 / 1311 images ~ 12 epochs; the demo's own are four times as long.
ITERATIONS, IMAGES_A_STEP = 1000, 16
#: Resamples of the test images, the same for all methods and seeds.
DRAWS = 300


class SecondStages:
    """One stage 1, its caches, and what was tried on it, kept in a folder."""

    def __init__(
        self, stage1: Path, folder: Path, *, iterations: int = ITERATIONS, draws: int = DRAWS
    ) -> None:
        """Load the detector and cache its test images.

        Args:
            stage1: output folder of the training, with config.yaml and model_final.pth.
            folder: results go here, the caches of regions beside it.
            iterations: of each second stage.
            draws: resamples of the test images.
        """
        cfg = load_config(
            str(stage1 / "config.yaml"),
            [
                *("MODEL.WEIGHTS", str(stage1 / "model_final.pth")),
                *("SOLVER.IMS_PER_BATCH", str(IMAGES_A_STEP)),
            ],
        )
        options = BalanceOptions(
            iterations=iterations, images=10**9, score_thresholds=(), nms_thresholds=()
        )
        self._folder, self._iterations = folder, iterations
        self._subject: DetectorSubject = build_detector_subject(cfg, options, folder / "work")
        check_same_balance(folder, {**self._subject.about(options), "draws": draws})
        images = len(self._subject.test_dicts)
        half = balanced_halves(self._subject.truth.images_by_class(), total=images, seed=0)
        # No halves are wanted: all images are resampled together.
        drawn = resamples(np.ones_like(half), draws, seed=0)
        self._weights = np.vstack([np.ones(len(half)), drawn])
        assert self._subject.cache is not None
        self._store = self._subject.cache.fill()
        self._plain: Any = None  # the plainly fine-tuned detector, which corrections correct

    def run(self, methods: Sequence[Method]) -> list[dict[str, Any]]:
        """Return a row a method, the stage 1 first; those that are finished are kept.

        The row of a second stage that fails says why.
        """
        rows = [self._kept(Method(START, ""), self._evaluate_start)]
        for method in tqdm(methods, unit="method", desc=str(self._folder.name), disable=None):
            evaluate = self._evaluate_correction if method.correction else self._evaluate_trained
            rows.append(self._kept(method, evaluate))
        return rows

    def run_masks(self, methods: Sequence[Method]) -> list[dict[str, Any]]:
        """Return a row of mask AP for each method, kept in the folder "masks".

        Their classifiers are trained anew, from the same seed: they are not kept.
        """
        return [self._kept(m, self._evaluate_masks, self._folder / "masks") for m in methods]

    def _kept(self, method: Method, evaluate: Any, folder: Path | None = None) -> dict[str, Any]:
        path = (folder or self._folder) / f"{method.name.replace(' ', '_')}.json"
        options = [*method.options, method.correction]
        if path.is_file():
            row: dict[str, Any] = json.loads(path.read_text())
            if row["options"] == options:
                return row
        row = {"method": method.name, "options": options, **evaluate(method)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            json.dump(row, file)
        logger.info("%s: %s", method.name, {k: row.get(k) for k in ("AP", "APr", "APc", "APf")})
        return row

    def _figures(self, replay: Any, candidate: Candidate) -> dict[str, Any]:
        """Return the AP of all images and of each resample, and the detections an image."""
        subject = self._subject
        evaluation = CandidateEvaluation(
            lambda place: replay.image(FrozenImage.of_record(self._store[place])),
            [record["image_id"] for record in subject.test_dicts],
            limit=replay.limit,
            objects=subject.truth.objects,
            metadata=MetadataCatalog.get(subject.choose_on),
            dataset_name=subject.choose_on,
        )
        ((matches,),) = evaluation([candidate], [subject.replay.own])
        aps = subject.truth.class_figures(matches, self._weights)
        means = group_means(aps, subject.groups())
        return {
            **{name: float(values[0]) for name, values in means.items()},
            "resamples": {name: np.round(v[1:], 4).tolist() for name, v in means.items()},
            "detections an image": len(matches.scores) / len(subject.test_dicts),
            "score threshold": subject.replay.own.score_threshold,
            "NMS": subject.replay.own.nms_threshold,
        }

    def _evaluate_start(self, method: Method) -> dict[str, Any]:
        replay = self._subject.replay
        return self._figures(replay, Candidate(method.name, "loss", replay.own_classifiers()))

    def _evaluate_trained(self, method: Method) -> dict[str, Any]:
        try:
            detector, milliseconds = self._trained(method)
            replay = Replay(detector.eval())
        except (ValueError, FloatingPointError) as error:
            return {"failed": str(error)}
        found = Candidate(method.name, "loss", replay.own_classifiers())
        return {**self._figures(replay, found), "CPU ms a step": milliseconds}

    def _trained(self, method: Method) -> tuple[Any, float]:
        """Return the detector with its new classifier, and the CPU time of a step."""
        subject, clock = self._subject, [time.process_time()]
        weights = str(self._folder / "work" / "start.pth")
        recipe = Recipe(method.name, "loss", (*method.options, "MODEL.WEIGHTS", weights))
        self._write_start(recipe, weights)
        detector = trained_detector(
            subject.cfg,
            recipe,
            iterations=self._iterations,
            dtype="float32",
            rows=subject.train_rows,
            on_iteration=lambda: clock.append(time.process_time()),
        )
        steps = np.diff(clock)[1:]
        if method.name == PLAIN:
            self._plain = detector
        return detector, 1000 * statistics.median(steps) if len(steps) else float("nan")

    def _write_start(self, recipe: Recipe, path: str) -> None:
        """Write stage 1 with the columns of the loss: what both have is stage 1's.

        Biases of sigmoid columns start from the prior, but for losses that have as many columns as
        the softmax: those are loaded as they are. Either is what `--stages` gives.
        """
        subject = self._subject
        cfg = training_config(subject.cfg, recipe, iterations=1, dtype="float32")
        with quiet():
            seed_all_rng(cfg.SEED)
            model = build_model(cfg)
        model.load_state_dict({**model.state_dict(), **self._without_classifier()})
        ours, stage1 = model.roi_heads.box_predictor, subject.model.roi_heads.box_predictor
        k, columns = ours.num_classes, ours.criterion.extra_columns(background=True)
        with_bias = ours.kind == "softmax" or len(ours.cls_score.weight) == k + 1
        with torch.no_grad():
            for name in ("weight", "bias") if with_bias else ("weight",):
                rows, source = getattr(ours.cls_score, name), getattr(stage1.cls_score, name)
                rows[:k].copy_(source[:k])
                if "background" in columns:
                    rows[k + columns.index("background")].copy_(source[k])
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, "wb") as file:
            torch.save({"model": model.state_dict()}, file)

    def _without_classifier(self) -> dict[str, Any]:
        beginnings = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.criterion")
        state = self._subject.model.state_dict()
        return {k: v for k, v in state.items() if not k.startswith(beginnings)}

    def _evaluate_correction(self, method: Method) -> dict[str, Any]:
        replay, candidate = self._corrected(method)
        return self._figures(replay, candidate)

    def _evaluate_masks(self, method: Method) -> dict[str, Any]:
        if method.name == START:
            detector: Any = self._subject.model
        elif method.correction:
            replay, candidate = self._corrected(method)
            detector = copy.deepcopy(self._plain)
            detector.load_state_dict(replay.state(candidate.classifiers), strict=False)
        else:
            detector, _ = self._trained(method)
        return mask_figures(detector.eval(), self._subject, self._weights)

    def _corrected(self, method: Method) -> tuple[Replay, Candidate]:
        """Return what replays the plainly fine-tuned detector, and its corrected classifier."""
        subject = self._subject
        if self._plain is None:
            self._trained(Method(PLAIN, "", ("LT_DET.LOSS", PLAIN)))
        replay = Replay(self._plain.eval())
        own = replay.own_classifiers()
        counts = torch.from_numpy(subject.stats.counts("image"))
        dimensions = fractal_dimensions(
            *box_centres(subject.train_dicts), num_classes=subject.stats.num_classes
        )
        images = max(subject.stats.num_images, len(subject.train_dicts))
        moments: list = []
        if method.correction == "LogN":
            recipe = Recipe(PLAIN, "loss", ("LT_DET.LOSS", PLAIN))
            rows = subject.train_rows
            regions = training_regions(subject.cfg, recipe, dtype="float32", rows=rows)
            moments = logit_moments(regions, own)
        fractal = (torch.from_numpy(dimensions), images)
        found = calibrations(own, counts, kind="softmax", fractal=fractal, moments=moments)
        (candidate,) = [c for c in found if c.name == method.correction]
        return replay, candidate
