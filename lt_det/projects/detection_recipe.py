"""Recipe of a detector: two stages from the counts, the images, the machine and the time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from lt_det.data.sampling.repeat_threshold import repetition
from lt_det.projects.detector_model import anchor_settings, base_config, is_small, model_settings
from lt_det.projects.facts import DetectionFacts, Files, relative_to
from lt_det.projects.input_size import image_size, longest_side, size_settings
from lt_det.projects.machine import FORWARD_SHARE, Machine, Work
from lt_det.projects.recipe import Recipe, Setting, Stage, settings_of
from lt_det.projects.schedule import (
    Schedule,
    budget_text,
    clipping_settings,
    most_epochs,
    plan,
    schedule_settings,
)
from lt_det.projects.start_weights import StartWeights
from lt_det.projects.tail import detection_losses, group_limits

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
    counts = facts.stats.image_counts
    work: Work = "segmentation" if masks else "detection"
    losses = detection_losses(counts, federated=facts.federated)
    repeat = repetition(counts, images=facts.stats.num_images)
    size = image_size(facts, machine)
    width = longest_side(size, facts.aspect)
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
        if is_small(start, machine)
        else (0.00125, "Detectron2's 0.02 for 16")
    )
    first = Stage(
        "stage1",
        f"lt_det://_base_/{base_config(start, machine)}",
        (
            f"Stage 1 of {1 + bool(losses.second)}, written by lt-det new-project for {machine} "
            f"and {budget_text(seconds)}.",
            f"{facts.stats.num_images} annotated images, {facts.stats.num_classes} classes.",
            "here:// is the folder of this file.",
        ),
        settings_of(
            _data(facts, folder),
            model_settings(facts, start, machine, masks=masks, masks_reason=masks_reason),
            size_settings(facts, size, width, machine),
            anchor_settings(start, machine, size),
            schedule_settings(
                schedule, metric=metric, batch=batch, rate=rate, rate_reason=rate_reason
            ),
            clipping_settings(),
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
        small=is_small(start, machine),
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


def _batch(machine: Machine, megapixels: float, *, images: int) -> int:
    if machine.device == "cpu":
        return min(2 if images < 200 else 4, max(1, images))  # steps are dear
    empty = machine.gib(0, megapixels)
    one = max(1.0, (machine.gpu_gib - empty) / (machine.gib(1, megapixels) - empty))
    fitting = min(16 // machine.gpus or 1, 2 ** int(math.log2(one)))
    # Few images: steps enough in an epoch, and a rate that new layers stand.
    of_all = min(max(machine.gpus, fitting * machine.gpus), max(2 * machine.gpus, images // 8))
    of_all -= of_all % machine.gpus
    while of_all > max(images, machine.gpus):
        of_all -= machine.gpus
    return of_all


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
    if facts.declares_more:
        found.append(Setting("LT_DET.CLASS_STATS.SOURCE", "annotations",
                             "as all values here; 'image_count' in the json says more: for a "
                             "part of LVIS, auto would take that"))  # fmt: skip
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
