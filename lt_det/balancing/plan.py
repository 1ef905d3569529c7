"""Tell what a balance costs, in seconds and bytes, before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tabulate import tabulate


@dataclass(frozen=True)
class Rates:
    """Measured on this machine, or given.

    Attributes:
        test_image: seconds of the detector for one test image.
        train_image: seconds of the detector for one training image, forward only.
        replay: seconds of one classifier with one limit for one test image.
        iteration: seconds of one iteration of a classifier.
        recipe: seconds to start the training of one.
        whole_image: seconds of the whole model, with masks, for one test image.
    """

    test_image: float
    train_image: float
    replay: float
    iteration: float
    recipe: float = 2.0
    whole_image: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """What is planned.

    Attributes:
        test_images: to cache.
        train_images: to cache; 0 where nothing is trained.
        calibrations: classifiers that need no training, the one as trained included.
        recipes: classifiers to train.
        settings: limits that each is evaluated with.
        iterations: of each training.
        test_bytes: of one cached test image; 0 where they are not cached.
        train_bytes: of one cached training image.
    """

    test_images: int
    train_images: int
    calibrations: int
    recipes: int
    settings: int
    iterations: int
    test_bytes: float
    train_bytes: float


@dataclass(frozen=True)
class Step:
    """A row of the plan: what, how many, seconds, bytes on disk."""

    what: str
    number: str
    seconds: float
    bytes_: float = 0.0


def steps(
    sizes: Sizes, rates: Rates, *, test_missing: int, train_missing: int, evaluated: int = 0
) -> list[Step]:
    """Return the rows of the plan; what is cached already costs nothing.

    Args:
        sizes: what is planned.
        rates: how long it takes.
        test_missing: test images that are not cached yet.
        train_missing: training images, likewise.
        evaluated: images that start and result are evaluated on through the model at the end.
    """
    classifiers = sizes.calibrations + sizes.recipes
    one = sizes.test_images * sizes.settings * rates.replay
    each = f"x {sizes.settings} limits" if sizes.settings > 1 else "classifiers"
    rows = [
        Step(
            "cache the test images" if sizes.test_bytes else "run the detector",
            f"{test_missing} of {sizes.test_images} images",
            test_missing * rates.test_image,
            sizes.test_images * sizes.test_bytes,
        ),
        Step(
            "evaluate calibrations",
            f"{sizes.calibrations} {each}",
            sizes.calibrations * one,
        ),
        Step(
            "cache the training images",
            f"{train_missing} of {sizes.train_images} images",
            train_missing * rates.train_image,
            sizes.train_images * sizes.train_bytes,
        ),
        Step(
            "train classifiers",
            f"{sizes.recipes} x {sizes.iterations} iterations",
            sizes.recipes * (rates.recipe + sizes.iterations * rates.iteration),
        ),
        Step(
            "evaluate trained classifiers",
            f"{sizes.recipes} {each}",
            sizes.recipes * one,
        ),
        Step("choose", f"{classifiers * sizes.settings} candidates", 0.2 * classifiers),
    ]
    if evaluated:
        seconds = 2 * evaluated * rates.whole_image
        rows.append(Step("evaluate start and result", f"2 x {evaluated} images", seconds))
    return rows


def within(sizes: Sizes, rates: Rates, *, budget: float, max_bytes: float, classes: int) -> Sizes:
    """Return the plan with fewer images where time or disk are too small for all.

    Test images may take a third of the time and of the disk, training images the same.

    Args:
        sizes: the plan with all images.
        rates: how long it takes.
        budget: seconds; infinity for no limit.
        max_bytes: of both caches.
        classes: an image of each class stays at least.
    """
    test: list[float] = [sizes.test_images]
    if sizes.test_bytes:
        test.append(max_bytes / 3 / sizes.test_bytes)
    train: list[float] = [sizes.train_images]
    if sizes.train_bytes:
        train.append(max_bytes / 3 / sizes.train_bytes)
    if math.isfinite(budget):
        test.append(budget / 3 / rates.test_image)
        train.append(budget / 3 / rates.train_image)
    return replace(
        sizes,
        test_images=max(int(min(test)), min(classes, sizes.test_images)),
        train_images=max(int(min(train)), min(classes, sizes.train_images)),
    )


def plan_text(rows: list[Step]) -> str:
    """Return the plan as a table with its sum."""
    body = [[s.what, s.number, duration(s.seconds), size(s.bytes_)] for s in rows]
    total = ["sum", "", duration(sum(s.seconds for s in rows)), size(sum(s.bytes_ for s in rows))]
    return tabulate([*body, total], ["step", "how many", "time", "disk"], tablefmt="github")


def duration(seconds: float) -> str:
    """Return seconds as text, such as "2 min 30 s"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 or not seconds else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def size(bytes_: float) -> str:
    """Return bytes as text, such as "1.5 GiB"; "" for none."""
    if not bytes_:
        return ""
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"
