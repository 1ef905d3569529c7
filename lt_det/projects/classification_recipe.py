"""Recipe of an image classifier: two stages from folders or a csv of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lt_det.projects.detection_recipe import data_name
from lt_det.projects.facts import ClassificationFacts, Files, relative_to
from lt_det.projects.machine import Machine
from lt_det.projects.recipe import Recipe, Setting, Stage, settings_of
from lt_det.projects.schedule import (
    budget_text,
    clipping_settings,
    most_epochs,
    plan,
    schedule_settings,
)
from lt_det.projects.start_weights import StartWeights
from lt_det.projects.tail import classification_losses, group_limits

#: Share of the training images that is held out where there is no validation set.
HELD_OUT = 0.2
_FIRST_SHARE = 0.75
_METRIC = "classification/mean_class"


def classification_recipe(
    facts: ClassificationFacts,
    machine: Machine,
    start: StartWeights,
    *,
    seconds: float,
    folder: str,
) -> Recipe:
    """Return the stages of an image classifier.

    Args:
        facts: of the data.
        machine: that trains.
        start: weights of the backbone.
        seconds: that all stages may take.
        folder: that the configs go to; it names the data sets.
    """
    counts, images = facts.stats.image_counts, facts.stats.num_images
    losses = classification_losses(counts)
    size = max(32, min(224, math.ceil(facts.short_side / 32) * 32))
    batch = _batch(machine, images)
    cost = machine.seconds_per_image(start.model, "classification", size * size / 1e6)
    first_seconds = seconds * (_FIRST_SHARE if losses.second else 1.0)

    def schedule(seconds: float, usual: float, most: float) -> Sequence[Setting]:
        return schedule_settings(
            plan(
                seconds=seconds,
                epoch=float(images),
                batch=batch,
                seconds_per_image=cost,
                val_images=facts.val_images,
                most_epochs=most_epochs(images, usual=usual, most=most, draws=20000),
            ),
            metric=_METRIC,
            batch=batch,
            rate=0.005 / 64,
            rate_reason="0.005 for 64, as statistics of ImageNet are frozen",
        )

    limits = group_limits(
        counts, usual=(19, 100), rule="the usual rule", names=("few", "medium", "many")
    )
    count = f"{images} images, {facts.stats.num_classes} classes"
    first = Stage(
        "stage1",
        "lt_det://classification/_base_/model_timm.yaml",
        (
            f"Stage 1 of {1 + bool(losses.second)}, written by lt-det new-project for {machine} "
            f"and {budget_text(seconds)}.",
            f"{count}. here:// is the folder of this file.",
        ),
        settings_of(
            _data(facts, folder),
            _model(start, machine),
            _transform(facts, size),
            schedule(first_seconds, 30, 100),
            clipping_settings(),
            [
                Setting("LT_DET.LOSS", losses.first, losses.reason),
                Setting("LT_DET.CLASSIFICATION.FEW_MAX", limits.rare_max, limits.reason),
                Setting("LT_DET.CLASSIFICATION.MEDIUM_MAX", limits.common_max, "see FEW_MAX"),
                Setting(
                    "DATALOADER.NUM_WORKERS",
                    0 if machine.cores <= 2 else min(8, machine.cores // machine.gpus - 1),
                    f"of {machine.cores} cores",
                ),
                Setting("SEED", 0, "the same training again"),
                Setting("OUTPUT_DIR", "here://output/stage1", "checkpoints, log and results"),
            ],
        ),
    )
    notes = [f"Start weights: {start.reason}."]
    if facts.val is None:
        notes.append(
            f"There is no validation set: {HELD_OUT:.0%} of the images of each class are held out."
        )
    if not losses.second:
        return Recipe((first,), (*notes, "The classes are about equally frequent: one stage."))
    second = Stage(
        "stage2",
        "stage1.yaml",
        (
            "Stage 2 of 2: the classifier of stage 1 is trained anew, with a loss that takes the "
            "frequency of classes into account. What is not named here is that of stage 1.",
        ),
        settings_of(
            [
                Setting(
                    "MODEL.WEIGHTS",
                    "here://output/stage1/model_best.pth",
                    "of stage 1; --stages sets it, too",
                ),
                Setting("LT_DET.DECOUPLED", True, "features stay, the classifier is trained"),
                Setting("LT_DET.LOSS", losses.second, losses.second_reason),
            ],
            schedule(seconds - first_seconds, 10, 30),
            [Setting("OUTPUT_DIR", "here://output/stage2", "checkpoints, log and results")],
        ),
    )
    return Recipe((first, second), tuple(notes))


def _batch(machine: Machine, images: int) -> int:
    # Few images: steps enough in an epoch.
    batch = min(64 * machine.gpus if machine.device == "cuda" else 32, max(8, images // 4), images)
    return max(machine.gpus, batch - batch % machine.gpus)


def _entry(name: str, kind: str, files: Files, folder: str) -> list[str]:
    return [name, kind, f"here://{relative_to(files.annotations, folder)}", files.split]


def _data(facts: ClassificationFacts, folder: str) -> Sequence[Setting | None]:
    name = data_name(folder)
    entries = [_entry(f"{name}_train", facts.kind, facts.train, folder)]
    test = f"{name}_train_held_out"
    if facts.val is not None:
        test = f"{name}_val"
        entries.append(_entry(test, facts.kind, facts.val, folder))
    return [
        Setting("LT_DET.CLASSIFICATION.DATASETS", entries, "name, kind, path, split"),
        Setting("LT_DET.CLASSIFICATION.HELD_OUT", HELD_OUT, "of each class, as there is no "
                "validation set") if facts.val is None else None,
        Setting("LT_DET.CLASSIFICATION.NUM_CLASSES", facts.stats.num_classes,
                "classes of the training set; 0 counts them at the start"),
        Setting("DATASETS.TRAIN", [f"{name}_train"], f"{facts.stats.num_images} images"),
        Setting("DATASETS.TEST", [test], f"{facts.val_images} images"),
    ]  # fmt: skip


def _model(start: StartWeights, machine: Machine) -> Sequence[Setting | None]:
    lite0 = start.model == "lite0"
    name = "tf_efficientnet_lite0" if lite0 else "resnet50"
    return [
        Setting("MODEL.DEVICE", machine.device, str(machine)),
        Setting("LT_DET.TIMM.NAME", name, "network of the weights"),
        Setting("LT_DET.TIMM.WEIGHTS", start.timm, start.reason),
        Setting("LT_DET.TIMM.FREEZE_NORM", True, "statistics of ImageNet: batches are small"),
        Setting("MODEL.PIXEL_MEAN", [127.0] * 3, "as the weights were trained") if lite0 else None,
        Setting("MODEL.PIXEL_STD", [128.0] * 3, "likewise") if lite0 else None,
    ]  # fmt: skip


def _transform(facts: ClassificationFacts, size: int) -> Sequence[Setting]:
    node = "LT_DET.CLASSIFICATION.TRANSFORM"
    return [
        Setting(f"{node}.NAME", "resized_crop", "images of any size"),
        Setting(f"{node}.SIZE", size, f"that of the images, {facts.short_side:.0f} (median), at "
                "most ImageNet's 224"),
        Setting(f"{node}.TEST_RESIZE", round(size * 256 / 224), "shorter side before the crop, as "
                "256 for 224"),
        Setting(f"{node}.FLIP", True, "set False for what has a left and a right"),
    ]  # fmt: skip
