"""Balance of a detector: its replay, ground truth with boxes, and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances

from lt_det.balancing.candidates import Candidate, Fitting, calibrations, settings_to_try
from lt_det.balancing.choice import Objective
from lt_det.balancing.dense_replay import DenseReplay, is_dense
from lt_det.balancing.evaluation import CandidateEvaluation
from lt_det.balancing.evaluation_cache import EvaluationCache, FrozenDetector
from lt_det.balancing.export import Written, write_balanced
from lt_det.balancing.frozen_images import FrozenImage, box_stages
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.rates import bytes_of_region, dense_rates, measured_rates, whole_image
from lt_det.balancing.replay import Classifiers, PostProcessing, Replay
from lt_det.balancing.subject import Evaluation, Subject, checked_config
from lt_det.balancing.subsets import some_images
from lt_det.balancing.truth import BoxTruth
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.stats.fractal_dimension import box_centres, fractal_dimensions
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.evaluated_classes import category_ids_in_contiguous_order
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth, read_ground_truth
from lt_det.losses import get_loss
from lt_det.modeling.calibration import LogitMoments
from lt_det.storage.regular_file import open_regular
from lt_det.tasks import build_class_stats

_NO_TRAINING = "Of dense detectors no classifier is trained: calibrations are tried, and limits."


@dataclass(frozen=True)
class DetectorSubject(Subject):
    """A detector.

    Attributes:
        replay: what is left of it after the features.
    """

    truth: BoxTruth
    replay: Replay | DenseReplay

    judged: ClassVar[type] = Matches
    objective: ClassVar[Objective] = Objective("APr", "AP")

    @property
    def fitting(self) -> Fitting:
        """See :class:`Subject`."""
        return Fitting(self.replay.kind, self.replay.kind)

    def own_classifiers(self) -> Classifiers:
        """See :class:`Subject`."""
        return self.replay.own_classifiers()

    def calibrations(self, moments: Sequence[LogitMoments] = ()) -> list[Candidate]:
        """See :class:`Subject`."""
        counts, kind = torch.from_numpy(self.stats.counts("image")), self.replay.kind
        fractal = None
        if kind == "softmax" and not moments:
            dimensions = fractal_dimensions(
                *box_centres(self.train_dicts), num_classes=self.stats.num_classes
            )
            images = max(self.stats.num_images, len(self.train_dicts))
            fractal = (torch.from_numpy(dimensions), images)
        own = self.own_classifiers()
        return calibrations(own, counts, kind=kind, fractal=fractal, moments=moments)

    def settings(self, options: BalanceOptions) -> list[PostProcessing]:
        """See :class:`Subject`."""
        return _settings(self.replay, options)

    def groups(self) -> list[str | None]:
        """See :class:`Subject`."""
        known = self.truth.objects.category_ids.tolist()
        ids = category_ids_in_contiguous_order(
            MetadataCatalog.get(self.choose_on), known, dataset_name=self.choose_on
        )
        of_class = dict(zip(ids, self.stats.frequency_groups))
        return [of_class.get(i) for i in known]

    def evaluation(self) -> Evaluation:
        """See :class:`Subject`."""
        return CandidateEvaluation(
            self.images(),
            [record["image_id"] for record in self.test_dicts],
            limit=self.replay.limit,
            objects=self.truth.objects,
            metadata=MetadataCatalog.get(self.choose_on),
            dataset_name=self.choose_on,
        )

    def images(self) -> Callable[[int], Callable[..., list[Instances]]]:
        """Return what finds detections in a test image, by its place."""
        if isinstance(self.replay, Replay):
            assert self.cache is not None
            replay, store = self.replay, self.cache.fill()
            return lambda place: replay.image(FrozenImage.of_record(store[place]))
        dense, mapper = self.replay, DatasetMapper(self.cfg, is_train=False)
        return lambda place: dense.image(mapper(self.test_dicts[place]))

    def write(
        self, folder: Path, classifiers: Classifiers, setting: PostProcessing | None
    ) -> Written:
        """See :class:`Subject`."""
        assert setting is not None
        return write_balanced(folder, self.cfg, self.model, self.replay, classifiers, setting)


def build_detector_subject(cfg: Any, options: BalanceOptions, output: Path) -> DetectorSubject:
    """Return what is balanced, images chosen so that they fit into time and disk.

    Raises:
        ValueError: if the detector, its weights or the data set cannot be used; says why.
        KeyError: if the data set is not registered.
    """
    _check_loss(cfg)
    cfg, notes = checked_config(cfg, options, output, what="detector")
    name = cfg.DATASETS.TEST[0]
    model = build_model(cfg).eval()
    dense = is_dense(model)
    if not dense:
        box_stages(model)
    with open_regular(cfg.MODEL.WEIGHTS):
        evaluated = load_evaluated_model(cfg, model, resume=False)
    stats = evaluated.class_stats or build_class_stats(cfg)
    replay = DenseReplay(model) if dense else Replay(model)
    metadata = MetadataCatalog.get(name)
    truth = read_ground_truth(metadata.json_file, with_masks=False, name=name)
    if not truth.annotations:
        raise ValueError(f"--choose-on {name} has no annotations: nothing can be chosen on it")
    test_dicts, train_dicts = DatasetCatalog.get(name), list(build_train_dicts(cfg))
    settings = _settings(replay, options)
    size = test_bytes = 0
    if isinstance(replay, DenseReplay):
        rates = dense_rates(cfg, replay, test_dicts, settings)
        if options.train:
            notes.append(_NO_TRAINING)
    else:
        rates, regions = measured_rates(cfg, model, test_dicts, train_dicts, settings)
        size = bytes_of_region(model, dtype=options.dtype)
        test_bytes = regions * (size + 16 * len(box_stages(model)))
    if options.evaluate:
        rates = replace(rates, whole_image=whole_image(cfg, model, test_dicts))
    elif cfg.MODEL.MASK_ON:
        notes.append("Masks play no part in the choice: --evaluate states mask AP, too.")
    chosen = some_images(
        cfg,
        options,
        output,
        notes,
        rates,
        test=(test_dicts, _rows_by_class(Objects.of(truth), test_dicts)),
        train_dicts=train_dicts,
        num_classes=stats.num_classes,
        settings=len(settings),
        test_bytes=test_bytes,
        train_bytes=cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE * size,
    )
    cache = None
    if not dense:
        part, beside = FrozenDetector(cfg, model), str(output)
        cache = EvaluationCache(
            cfg, model, chosen.test_dicts, part, beside=beside, dtype=options.dtype
        )
    return DetectorSubject(
        cfg=cfg,
        model=model,
        evaluated=evaluated,
        replay=replay,
        stats=stats,
        choose_on=name,
        truth=BoxTruth(Objects.of(_of_images(truth, chosen.test_dicts))),
        test_dicts=chosen.test_dicts,
        train_dicts=train_dicts,
        train_rows=chosen.train_rows,
        cache=cache,
        rates=rates,
        notes=notes,
        planned=chosen.sizes,
    )


def _check_loss(cfg: Any) -> None:
    ours = (cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.META_ARCHITECTURE)
    if not any(name.startswith("LongTail") for name in ours):
        return
    spec = get_loss(cfg.LT_DET.LOSS)
    why = Fitting(spec.kind, spec.kind).why_not(spec)
    if why:
        raise ValueError(
            f"LT_DET.LOSS {cfg.LT_DET.LOSS!r}, {why}: plain Detectron2 has no place for that, and "
            "balance cannot write its result. Try LT_DET.POST_HOC or a second stage"
        )


def _settings(replay: Replay | DenseReplay, options: BalanceOptions) -> list[PostProcessing]:
    return settings_to_try(
        replay.own,
        score_thresholds=options.score_thresholds,
        nms_thresholds=options.nms_thresholds,
    )


def _of_images(truth: LVISGroundTruth, dicts: Sequence[dict]) -> LVISGroundTruth:
    kept = {record["image_id"] for record in dicts}
    return LVISGroundTruth(
        images=[image for image in truth.images if image["id"] in kept],
        annotations=[a for a in truth.annotations if a["image_id"] in kept],
        categories=truth.categories,
    )


def _rows_by_class(objects: Objects, dicts: Sequence[dict]) -> list[list[int]]:
    place = {record["image_id"]: row for row, record in enumerate(dicts)}
    return [
        [place[i] for i in objects.image_ids[rows].tolist() if i in place]
        for rows in objects.images_by_class()
    ]
