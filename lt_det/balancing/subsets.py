"""Choose images of a balance so that they fit into time and disk, and every class keeps some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lt_det.balancing.kept import kept_images
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.plan import Rates, Sizes, within
from lt_det.data.sampling.samplers import classes_of_images

# Of two numbers of images, the smaller must be this much smaller to be worth a subset.
_ALL_BUT = 0.98


class SomeImages(NamedTuple):
    """Images that fit into time and disk.

    Attributes:
        test_dicts: those that are chosen on.
        train_rows: those that are trained on; None is all.
        sizes: of the plan, with their numbers.
    """

    test_dicts: list[dict]
    train_rows: list[int] | None
    sizes: Sizes


def some_images(
    cfg: Any,
    options: BalanceOptions,
    output: Path,
    notes: list[str],
    rates: Rates,
    *,
    test: tuple[Sequence[dict], Sequence[Sequence[int] | np.ndarray]],
    train_dicts: Sequence[dict],
    num_classes: int,
    settings: int,
    test_bytes: float,
    train_bytes: float,
) -> SomeImages:
    """Return the images of a balance: those of one begun before, else seeded subsets.

    As many as fit into the time and onto the disk, or as were asked for.

    Args:
        cfg: of the balance; DATASETS.TEST is the set that is chosen on.
        options: of the balance.
        output: folder.
        notes: gets a sentence for each subset.
        rates: how long an image takes.
        test: dicts of the set that is chosen on, and for each class the rows with it.
        train_dicts: all training images.
        num_classes: of the model.
        settings: limits that each candidate is evaluated with.
        test_bytes: of one cached test image; 0 where they are not cached.
        train_bytes: of one cached training image, likewise.
    """
    test_dicts, by_class = test
    sizes = within(
        Sizes(
            test_images=min(len(test_dicts), options.images or len(test_dicts)),
            train_images=len(train_dicts),
            calibrations=0,
            recipes=0,
            settings=settings,
            iterations=options.iterations,
            test_bytes=test_bytes,
            train_bytes=train_bytes,
        ),
        rates,
        budget=options.budget,
        max_bytes=cfg.LT_DET.REGION_CACHE.MAX_GIB * 2**30,
        classes=num_classes,
    )
    number, seed = sizes.test_images, options.seed
    rows = images_of_all_classes(by_class, total=len(test_dicts), number=number, seed=seed)
    train_rows = _train_rows(train_dicts, num_classes, sizes.train_images, seed=seed)
    begun = kept_images(output, asked=options.images)
    if begun is not None:
        ids, train_rows = set(begun[0]), begun[1]
        rows = [row for row, record in enumerate(test_dicts) if record["image_id"] in ids]
    if len(rows) < len(test_dicts):
        name = cfg.DATASETS.TEST[0]
        notes.append(f"{len(rows)} of {len(test_dicts)} images of {name} are chosen on.")
    if train_rows is not None and options.train and sizes.train_bytes:
        notes.append(f"{len(train_rows)} of {len(train_dicts)} training images are trained on.")
    train_images = len(train_dicts if train_rows is None else train_rows)
    sizes = replace(sizes, test_images=len(rows), train_images=train_images)
    return SomeImages([test_dicts[row] for row in rows], train_rows, sizes)


def _train_rows(
    dicts: Sequence[dict], num_classes: int, number: int, *, seed: int
) -> list[int] | None:
    if number >= _ALL_BUT * len(dicts):
        return None
    by_class: list[list[int]] = [[] for _ in range(num_classes)]
    for row, classes in enumerate(classes_of_images(dicts)):
        for k in classes:
            by_class[k].append(row)
    return images_of_all_classes(by_class, total=len(dicts), number=number, seed=seed)


def images_of_all_classes(
    by_class: Sequence[Sequence[int] | np.ndarray], *, total: int, number: int, seed: int
) -> list[int]:
    """Return ``number`` of ``total`` images, rising, so that every class keeps its images.

    Classes give in turn, the one with the fewest images first; what room is left is drawn from
    all. Where ``number`` is too small for one image of each class, the rarest have theirs.

    Args:
        by_class: rows of the images with an object of each class.
        total: number of images.
        number: how many are wanted; all, if there are fewer.
        seed: of the draw.
    """
    if number >= total:
        return list(range(total))
    generator = torch.Generator().manual_seed(seed)
    shuffled = [
        [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
        for rows in sorted(map(list, by_class), key=len)
    ]
    chosen: dict[int, None] = {}
    for turn in range(max(map(len, shuffled), default=0)):
        for rows in shuffled:
            if turn < len(rows) and len(chosen) < number:
                chosen.setdefault(rows[turn])
        if len(chosen) >= number:
            break
    rest = torch.randperm(total, generator=generator).tolist()
    for row in rest:
        if len(chosen) >= number:
            break
        chosen.setdefault(row)
    return sorted(chosen)
