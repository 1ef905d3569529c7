"""Gather what a balance works on: detector, images, ground truth, counts, caches, rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from lt_det.balancing.candidates import is_plain, settings_to_try
from lt_det.balancing.dense_replay import DenseReplay, is_dense
from lt_det.balancing.evaluation_cache import (
    EvaluationCache,
    FrozenDetector,
    images_of_all_classes,
)
from lt_det.balancing.frozen_images import FrozenImage, box_stages
from lt_det.balancing.kept import file_digest, kept_images
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.plan import Rates, Sizes, within
from lt_det.balancing.rates import bytes_of_region, dense_rates, measured_rates
from lt_det.balancing.replay import Replay
from lt_det.data.annotations.datasets import check_registered
from lt_det.data.images.datasets import share_images
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.sampling.samplers import classes_of_images
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.evaluators import prepare_evaluation
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth, read_ground_truth
from lt_det.losses import get_loss
from lt_det.storage.regular_file import open_regular
from lt_det.tasks import build_class_stats, build_task

_NO_TRAINING = "Of dense detectors no classifier is trained: calibrations are tried, and limits."
# Of two numbers of images, the smaller must be this much smaller to be worth a subset.
_ALL_BUT = 0.98


@dataclass(frozen=True)
class Subject:
    """All that is fixed during a balance.

    Attributes:
        cfg: config; OUTPUT_DIR is the output folder, DATASETS.TEST the set that is chosen on.
        model: detector with its weights, in evaluation mode.
        replay: what is left of it after the features.
        stats: class statistics of the training set.
        choose_on: data set.
        metadata: of it.
        objects: its ground truth, of the images that are chosen on.
        test_dicts: these images.
        train_dicts: all training images.
        train_rows: of them, those to train on; None is all.
        cache: of the test images; None for dense detectors, which run once for all candidates.
        rates: measured.
        notes: sentences for the reader.
    """

    cfg: Any
    model: nn.Module
    replay: Replay | DenseReplay
    stats: ClassStats
    choose_on: str
    metadata: Any
    objects: Objects
    test_dicts: Sequence[dict]
    train_dicts: Sequence[dict]
    train_rows: list[int] | None
    cache: EvaluationCache | None
    rates: Rates
    notes: list[str]
    planned: Sizes

    @property
    def can_train(self) -> bool:
        """Whether classifiers can be trained, from cached regions."""
        return self.cache is not None

    def missing(self) -> int:
        """Return how many test images the detector has to see."""
        return len(self.test_dicts) if self.cache is None else self.cache.missing()

    def images(self) -> Callable[[int], Callable[..., list[Instances]]]:
        """Return what finds detections in a test image, by its place; fills the cache."""
        if isinstance(self.replay, Replay):
            assert self.cache is not None
            replay, store = self.replay, self.cache.fill()
            return lambda place: replay.image(FrozenImage.of_record(store[place]))
        dense, mapper = self.replay, DatasetMapper(self.cfg, is_train=False)
        return lambda place: dense.image(mapper(self.test_dicts[place]))

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
            "MODEL.WEIGHTS": file_digest(self.cfg.MODEL.WEIGHTS),
            "config": cfg.dump(),
            "--choose-on": self.choose_on,
            "test images": [record["image_id"] for record in self.test_dicts],
            "training images": self.train_rows,
            **{f"--{key.replace('_', '-')}": asdict(options)[key] for key in kept},
        }

    def groups(self, class_rows: Sequence[int]) -> list[str | None]:
        """Return the group of each class of the ground truth.

        Args:
            class_rows: row in the ground truth of each class of the model; -1 for none.
        """
        groups: list[str | None] = [None] * len(self.objects.category_ids)
        for group, row in zip(self.stats.frequency_groups, class_rows):
            if row >= 0:
                groups[row] = group
        return groups


def build_subject(cfg: Any, options: BalanceOptions, output: Path) -> Subject:
    """Return what is balanced, images chosen so that they fit into time and disk.

    Raises:
        ValueError: if the detector, its weights or the data set cannot be used; says why.
        KeyError: if the data set is not registered.
    """
    cfg, notes = _checked(cfg, options, output)
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
    settings = settings_to_try(
        replay.own,
        score_thresholds=options.score_thresholds,
        nms_thresholds=options.nms_thresholds,
    )
    size = test_bytes = 0
    if isinstance(replay, DenseReplay):
        rates = dense_rates(cfg, replay, test_dicts, settings)
        if options.train:
            notes.append(_NO_TRAINING)
    else:
        rates, regions = measured_rates(cfg, model, test_dicts, train_dicts, settings)
        size = bytes_of_region(model, dtype=options.dtype)
        test_bytes = regions * (size + 16 * len(box_stages(model)))
    sizes = within(
        Sizes(
            test_images=min(len(test_dicts), options.images or len(test_dicts)),
            train_images=len(train_dicts),
            calibrations=0,
            recipes=0,
            settings=len(settings),
            iterations=options.iterations,
            test_bytes=test_bytes,
            train_bytes=cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE * size,
        ),
        rates,
        budget=options.budget,
        max_bytes=cfg.LT_DET.REGION_CACHE.MAX_GIB * 2**30,
        classes=stats.num_classes,
    )
    test_rows = _test_rows(Objects.of(truth), test_dicts, sizes.test_images, seed=options.seed)
    train_rows = _train_rows(train_dicts, stats, sizes.train_images, seed=options.seed)
    begun = kept_images(output)
    if begun is not None and not options.images:
        ids, train_rows = set(begun[0]), begun[1]
        test_rows = [row for row, record in enumerate(test_dicts) if record["image_id"] in ids]
    if len(test_rows) < len(test_dicts):
        notes.append(f"{len(test_rows)} of {len(test_dicts)} images of {name} are chosen on.")
    test_dicts = [test_dicts[row] for row in test_rows]
    if train_rows is not None and options.train and not dense:
        notes.append(f"{len(train_rows)} of {len(train_dicts)} training images are trained on.")
    sizes = replace(sizes, train_images=len(train_dicts if train_rows is None else train_rows))
    cache = None
    if not dense:
        part = FrozenDetector(cfg, model)
        cache = EvaluationCache(
            cfg, model, test_dicts, part, beside=str(output), dtype=options.dtype
        )
    return Subject(
        cfg=cfg,
        model=model,
        replay=replay,
        stats=stats,
        choose_on=name,
        metadata=metadata,
        objects=Objects.of(_of_images(truth, test_dicts)),
        test_dicts=test_dicts,
        train_dicts=train_dicts,
        train_rows=train_rows,
        cache=cache,
        rates=rates,
        notes=notes,
        planned=replace(sizes, test_images=len(test_dicts)),
    )


def _checked(cfg: Any, options: BalanceOptions, output: Path) -> tuple[Any, list[str]]:
    """Return the config of the balance, and what is to be said of its data sets."""
    if build_task(cfg).one_class_an_image:
        raise ValueError(
            "balance is for detectors; for MODEL.META_ARCHITECTURE LongTailImageClassifier there "
            "is lt-det posthoc-sweep, with --held-out to choose honestly"
        )
    ours = (cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.META_ARCHITECTURE)
    if any(name.startswith("LongTail") for name in ours) and not is_plain(
        get_loss(cfg.LT_DET.LOSS)
    ):
        raise ValueError(
            f"LT_DET.LOSS {cfg.LT_DET.LOSS!r} has columns or scores that plain Detectron2 has not: "
            "balance cannot write its result. Try LT_DET.POST_HOC or a second stage"
        )
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("MODEL.WEIGHTS is empty: give the checkpoint of the detector to balance")
    name = options.choose_on
    if not name:
        if len(cfg.DATASETS.TEST) != 1:
            raise ValueError(
                f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} data sets, "
                f"{tuple(cfg.DATASETS.TEST)}: say which to choose on with --choose-on NAME"
            )
        (name,) = cfg.DATASETS.TEST
    check_registered(name)
    if not MetadataCatalog.get(name).get("json_file"):
        raise ValueError(f"--choose-on {name} has no json of annotations in its metadata")
    notes = []
    if any(share_images(name, trained) for trained in cfg.DATASETS.TRAIN):
        notes.append(
            f"{name} is what the detector was trained on: it has seen these images, so all figures "
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
    cfg.LT_DET.PATCH = cfg.LT_DET.DECOUPLED = False
    cfg.LT_DET.META.ENABLED = cfg.LT_DET.REGION_CACHE.ENABLED = False
    if cfg.SEED < 0:
        cfg.SEED = options.seed
    cfg.freeze()
    return prepare_evaluation(cfg, resume=False), notes


def _of_images(truth: LVISGroundTruth, dicts: Sequence[dict]) -> LVISGroundTruth:
    kept = {record["image_id"] for record in dicts}
    return LVISGroundTruth(
        images=[image for image in truth.images if image["id"] in kept],
        annotations=[a for a in truth.annotations if a["image_id"] in kept],
        categories=truth.categories,
    )


def _test_rows(objects: Objects, dicts: Sequence[dict], number: int, *, seed: int) -> list[int]:
    place = {record["image_id"]: row for row, record in enumerate(dicts)}
    by_class = [
        [place[i] for i in objects.image_ids[rows].tolist() if i in place]
        for rows in objects.images_by_class()
    ]
    return images_of_all_classes(by_class, total=len(dicts), number=number, seed=seed)


def _train_rows(
    dicts: Sequence[dict], stats: ClassStats, number: int, *, seed: int
) -> list[int] | None:
    if number >= _ALL_BUT * len(dicts):
        return None
    by_class: list[list[int]] = [[] for _ in range(stats.num_classes)]
    for row, classes in enumerate(classes_of_images(dicts)):
        for k in classes:
            by_class[k].append(row)
    return images_of_all_classes(by_class, total=len(dicts), number=number, seed=seed)
