"""Recipe of a detector: two stages from the counts, the images, the machine and the time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from lt_det.projects.facts import DetectionFacts, Files, relative_to
from lt_det.projects.machine import FORWARD_SHARE, Machine
from lt_det.projects.recipe import Recipe, Setting, Stage, settings_of
from lt_det.projects.schedule import Schedule, most_epochs, plan, schedule_settings
from lt_det.projects.start_weights import StartWeights
from lt_det.projects.tail import detection_losses, group_limits, repetition

#: Objects below this side are COCO's small ones, which detectors find worst.
_SMALL = 32
#: Longer side over shorter one of Detectron2's 1333 x 800, and what is allowed for panoramas.
_ASPECT, _LONGEST_ASPECT = 1333 / 800, 3.0
# Share of the time of a training with two stages.
_FIRST_SHARE = 0.75
# Region features of the second stage: regions an image x numbers of a region x 4 bytes.
_MOST_CACHE = 4 * 2**30
_CACHED_SECONDS = 0.003

Draws = Callable[[float], float]


def detection_recipe(
    facts: DetectionFacts,
    machine: Machine,
    start: StartWeights,
    *,
    seconds: float,
    folder: str,
    draws: Draws,
    masks: bool,
    masks_reason: str,
) -> Recipe:
    """Return the stages of a detector.

    Args:
        facts: of the data.
        machine: that trains.
        start: weights to start from.
        seconds: that all stages may take.
        folder: that the configs go to; paths are relative to it, and it names the data sets.
        draws: threshold of repeat factor sampling -> expected draws of an epoch.
        masks: whether masks are trained.
        masks_reason: why, or why not.
    """
    counts, work = facts.stats.image_counts, "segmentation" if masks else "detection"
    losses = detection_losses(counts, federated=facts.federated)
    repeat = repetition(counts, images=facts.stats.num_images)
    size = _image_size(facts, machine)
    width = _max_size(size, facts.aspect)
    megapixels = size * size * min(facts.aspect, width / size) / 1e6
    batch = _batch(machine, megapixels, images=facts.stats.num_images)
    cost = machine.seconds_per_image(start.model, work, megapixels)
    epoch = draws(repeat.threshold) if repeat.threshold else float(facts.stats.num_images)
    first_seconds = seconds * (_FIRST_SHARE if losses.second else 1.0)
    schedule = plan(
        seconds=first_seconds,
        epoch=epoch,
        batch=batch,
        seconds_per_image=cost,
        val_images=facts.val_images,
        most_epochs=most_epochs(facts.stats.num_images, usual=36, most=150, draws=8000),
    )
    metric = f"{'segm' if masks else 'bbox'}/AP" if facts.val else ""
    rate, rate_reason = (
        (0.0025, "which GroupNorm heads on a frozen backbone stand")
        if _is_small(start, machine)
        else (0.00125, "Detectron2's 0.02 for 16")
    )
    first = Stage(
        "stage1",
        f"lt_det://_base_/{_base(start, machine)}",
        (
            f"Stage 1 of {1 + bool(losses.second)}, written by lt-det new-project for {machine} "
            f"and {seconds / 3600:.3g} hours.",
            f"{facts.stats.num_images} annotated images, {facts.stats.num_classes} classes.",
            "here:// is the folder of this file.",
        ),
        settings_of(
            _data(facts, folder),
            _model(facts, start, machine, masks=masks, masks_reason=masks_reason),
            _sizes(facts, size, width, machine),
            _anchors(start, machine, size),
            schedule_settings(
                schedule, metric=metric, batch=batch, rate=rate, rate_reason=rate_reason
            ),
            _clipping(),
            _tail(facts, repeat.threshold, repeat.reason, losses.first, losses.reason),
            _loading(machine, batch),
            [Setting("OUTPUT_DIR", "here://output/stage1", "checkpoints, log and results")],
        ),
    )
    notes = list(_notes(start, schedule, machine))
    if not losses.second:
        return Recipe(
            (first,), (*notes, "The classes are about equally frequent: there is one stage.")
        )
    second = _second_stage(
        facts,
        machine,
        first_batch=batch,
        seconds=seconds - first_seconds,
        cost=cost * FORWARD_SHARE,
        epoch=epoch,
        loss=(losses.second, losses.second_reason),
        metric=metric,
        small=_is_small(start, machine),
    )
    return Recipe((first, second), tuple(notes))


def _second_stage(
    facts: DetectionFacts,
    machine: Machine,
    *,
    first_batch: int,
    seconds: float,
    cost: float,
    epoch: float,
    loss: tuple[str, str],
    metric: str,
    small: bool,
) -> Stage:
    images = facts.stats.num_images
    passes = _cache_passes(images, seconds, cost, small=small)
    batch = max(first_batch, min(16, images)) if passes else first_batch
    batch -= batch % machine.gpus
    schedule = plan(
        seconds=seconds,
        epoch=epoch,
        batch=batch,
        seconds_per_image=_CACHED_SECONDS if passes else cost,
        fixed_seconds=passes * images * cost,
        val_images=facts.val_images,
        val_share=cost / _CACHED_SECONDS if passes else 1.0,
        most_epochs=most_epochs(images, usual=12, most=50, draws=8000),
    )
    cached: list[Setting | None] = []
    if passes:
        cached = [
            Setting(
                "LT_DET.REGION_CACHE.ENABLED",
                True,
                "the frozen part runs once an image and pass instead of in every iteration",
            ),
            Setting(
                "LT_DET.REGION_CACHE.EPOCHS",
                passes,
                "passes over the images, each with its own augmentation",
            ),
        ]
    return Stage(
        "stage2",
        "stage1.yaml",
        (
            "Stage 2 of 2: the classifier of stage 1 is trained further, with a loss that takes "
            "the frequency of classes into account.",
            "What is not named here is that of stage 1.",
        ),
        settings_of(
            [
                Setting(
                    "MODEL.WEIGHTS",
                    "here://output/stage1/" + ("model_best.pth" if metric else "model_final.pth"),
                    "of stage 1; --stages sets it, too",
                ),
                Setting("LT_DET.START_CLASSES", "", "they are in the checkpoint"),
                Setting("LT_DET.DECOUPLED", True, "features stay, the classifier is trained"),
                Setting("LT_DET.LOSS", *loss),
            ],
            cached,
            schedule_settings(
                schedule,
                metric=metric,
                batch=batch,
                rate=0.00125,
                rate_reason="BALMS's 0.02 for 16",
            ),
            [Setting("OUTPUT_DIR", "here://output/stage2", "checkpoints, log and results")],
        ),
    )


def _cache_passes(images: int, seconds: float, cost: float, *, small: bool) -> int:
    """Return the passes to cache; 0 where they take too much room or time."""
    regions, numbers = (64, 256) if small else (512, 1024)
    fitting = _MOST_CACHE // (images * regions * numbers * 4)
    affordable = math.floor(0.5 * seconds / max(images * cost, 1e-9))
    return max(0, min(4, fitting, affordable))


def _is_small(start: StartWeights, machine: Machine) -> bool:
    """Return whether the network is the small one for a CPU."""
    return start.model == "lite0" and machine.device == "cpu"


def _base(start: StartWeights, machine: Machine) -> str:
    return "model_demo.yaml" if _is_small(start, machine) else "model_mask_rcnn_R50_FPN.yaml"


def _data(facts: DetectionFacts, folder: str) -> Sequence[Setting]:
    name = data_name(folder)
    train = _named(f"{name}_train", facts.train)
    val = _named(f"{name}_val", facts.val)
    entries = [
        [key, relative_to(file.annotations, folder), relative_to(file.images, folder)]
        for key, file in (*train.items(), *val.items())
    ]
    return [
        Setting("LT_DET.DATASETS", entries, "name, json, folder of the images; from this folder"),
        Setting("DATASETS.TRAIN", list(train), f"{facts.stats.num_images} annotated images"),
        Setting(
            "DATASETS.TEST",
            list(val),
            f"{facts.val_images} images" if val else "nothing is evaluated: --val was not given",
        ),
    ]


def data_name(folder: str) -> str:
    """Return a name for data sets made of the name of a folder: letters, digits and ``_``."""
    name = os.path.basename(os.path.abspath(folder))
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name) or "project"


def _named(name: str, files: Sequence[Files]) -> dict[str, Files]:
    if len(files) == 1:
        return {name: files[0]}
    return {f"{name}{number}": file for number, file in enumerate(files, start=1)}


def _model(
    facts: DetectionFacts, start: StartWeights, machine: Machine, *, masks: bool, masks_reason: str
) -> Sequence[Setting | None]:
    number = facts.stats.num_classes
    timm = start.kind != "coco" and not _is_small(start, machine)
    federated = facts.federated
    return [
        Setting("MODEL.DEVICE", machine.device, str(machine)),
        Setting("MODEL.WEIGHTS", start.weights, start.reason),
        Setting("LT_DET.START_CLASSES", start.classes, "classes of these weights: rows of the "
                "classifier of equal names are kept, the others start anew")
        if start.classes else None,
        *(_timm(start) if timm else ()),
        Setting("LT_DET.TIMM.WEIGHTS", start.timm, start.reason)
        if start.kind != "coco" and not timm else None,
        Setting("MODEL.MASK_ON", masks, masks_reason),
        Setting("INPUT.MASK_FORMAT", "bitmask" if facts.masks == "bitmask" else "polygon",
                "some masks are run-length encoded" if facts.masks == "bitmask"
                else "all masks are polygons") if masks else None,
        Setting("MODEL.ROI_HEADS.NUM_CLASSES", number,
                "classes of the training set; without this line it is counted at the start"),
        Setting("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0001,
                "AP counts low scores, too; for pictures set a higher one"),
        Setting("TEST.DETECTIONS_PER_IMAGE", 300 if federated else 100,
                "LVIS's rule" if federated else "COCO's rule"),
    ]  # fmt: skip


def _timm(start: StartWeights) -> Sequence[Setting]:
    lite0 = start.model == "lite0"
    mean, std = (
        ([127.0] * 3, [128.0] * 3)
        if lite0
        else ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )
    name = "tf_efficientnet_lite0" if lite0 else "resnet50"
    return [
        Setting("MODEL.BACKBONE.NAME", "build_lt_det_timm_fpn_backbone", "timm's, with a pyramid"),
        Setting("LT_DET.TIMM.NAME", name, "network of the weights"),
        Setting("LT_DET.TIMM.WEIGHTS", start.timm, start.reason),
        Setting("MODEL.PIXEL_MEAN", mean, "as these weights were trained"),
        Setting("MODEL.PIXEL_STD", std, "likewise"),
        Setting("INPUT.FORMAT", "RGB", "likewise"),
    ]


def _image_size(facts: DetectionFacts, machine: Machine) -> int:
    """Return the shorter side of the input: that of the images, larger for small objects."""
    cap = 800 if machine.device == "cuda" else 320
    size = min(cap, facts.short_side)
    if facts.object_side:
        side = facts.object_side * size / facts.short_side
        size = min(cap, size * min(2.0, max(1.0, _SMALL / max(side, 1.0))))
    return max(64, math.ceil(size / 32) * 32)


def _max_size(size: int, aspect: float) -> int:
    ratio = max(min(aspect, _LONGEST_ASPECT), _ASPECT if aspect > 1.2 else 1.0)
    return math.ceil(size * ratio / 32) * 32


def _sizes(facts: DetectionFacts, size: int, width: int, machine: Machine) -> Sequence[Setting]:
    limit = "800, Detectron2's" if machine.device == "cuda" else "320, for the CPU's sake"
    smallest = [round(size * share) for share in (0.8, 0.85, 0.9, 0.95, 1.0)]
    why = (
        f"the images' {facts.short_side:.0f} (median), objects of {facts.object_side:.0f} pixels "
        f"(median) enlarged towards {_SMALL}, at most {limit}"
    )
    return [
        Setting("INPUT.MIN_SIZE_TRAIN", smallest, f"0.8 to 1 of {size}; Detectron2's: 640 to 800"),
        Setting("INPUT.MIN_SIZE_TEST", size, f"shorter side: {why}"),
        Setting("INPUT.MAX_SIZE_TRAIN", width, f"nine of ten images have a ratio of sides up to "
                f"{facts.aspect:.2f}"),
        Setting("INPUT.MAX_SIZE_TEST", width, "likewise"),
    ]  # fmt: skip


def _anchors(start: StartWeights, machine: Machine, size: int) -> Sequence[Setting]:
    if not _is_small(start, machine):
        return []  # pre-trained RPNs have them; 32 to 512
    sides = [[max(8, round(size * share))] for share in (1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3)]
    return [
        Setting("MODEL.ANCHOR_GENERATOR.SIZES", sides, "1/12 to 2/3 of the shorter side of the "
                "input")
    ]  # fmt: skip


def _batch(machine: Machine, megapixels: float, *, images: int) -> int:
    if machine.device == "cpu":
        return min(2 if images < 200 else 4, max(1, images))  # steps are dear
    # Some 1.6 GiB for 0.9 megapixels, and 2.5 GiB for the model and its optimizer.
    one = max(1.0, (machine.gpu_gib - 2.5) / (1.8 * megapixels / 0.9))
    fitting = min(16 // machine.gpus or 1, 2 ** int(math.log2(one)))
    of_all = max(machine.gpus, fitting * machine.gpus)
    while of_all > max(images, machine.gpus):
        of_all -= machine.gpus
    return of_all


def _clipping() -> Sequence[Setting]:
    return [
        Setting("SOLVER.CLIP_GRADIENTS.ENABLED", True, "small batches have large gradients"),
        Setting("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm", "of each parameter"),
        Setting("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1.0, "Detectron2's"),
    ]  # fmt: skip


def _tail(
    facts: DetectionFacts, threshold: float, reason: str, loss: str, loss_reason: str
) -> Sequence[Setting]:
    limits = group_limits(facts.stats.image_counts)
    sampler = "RepeatFactorTrainingSampler" if threshold else "TrainingSampler"
    found = [
        Setting("LT_DET.LOSS", loss, loss_reason),
        Setting("LT_DET.CLASS_STATS.RARE_MAX", limits.rare_max, limits.reason),
        Setting("LT_DET.CLASS_STATS.COMMON_MAX", limits.common_max, "see RARE_MAX"),
        Setting("DATALOADER.SAMPLER_TRAIN", sampler,
                "images of rare classes are drawn more often" if threshold else reason),
    ]  # fmt: skip
    if threshold:
        found.append(Setting("DATALOADER.REPEAT_THRESHOLD", threshold, reason))
    return found


def _loading(machine: Machine, batch: int) -> Sequence[Setting]:
    if machine.device == "cpu":
        workers = 0 if machine.cores <= 2 else 2
        why = "the training needs the cores" if not workers else "loading is a small part on a CPU"
    else:
        workers = max(1, min(8, machine.cores // machine.gpus - 1))
        why = f"of {machine.cores} cores for each of {machine.gpus} processes"
    return [
        Setting("DATALOADER.NUM_WORKERS", workers, why),
        Setting("DATALOADER.ASPECT_RATIO_GROUPING", batch > machine.gpus,
                "less padding in a batch"),
        Setting("SEED", 0, "the same training again; a resumed one repeats an uninterrupted one"),
    ]  # fmt: skip


def _notes(start: StartWeights, schedule: Schedule, machine: Machine) -> Sequence[str]:
    found = [f"Start weights: {start.reason}."]
    found.append(
        f"Times are estimated {machine.source_of_seconds()}; the progress bar shows the true one."
    )
    if schedule.epochs < 1:
        found.append(
            f"The budget allows {schedule.epochs:.2g} epochs of stage 1 only: give a longer "
            "--budget, or fewer images."
        )
    return found
