#!/usr/bin/env python
"""Time of a second-stage iteration: plain, BALMS, the released scheme, and from cached regions.

python benchmarks/stage2.py

A whole Mask R-CNN R50-FPN with 1,203 classes of configs/lvis_balms_r50.yaml, random weights, on
random images of 256 x 320; two images of 512 regions an iteration.
"""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils.events import EventStorage
from iterations import stepper
from PIL import Image
from timing import CLOCK, REPOSITORY, Row, median_ms, peak_growth_mb, write_rows
from torch.func import functional_call

from lt_det.engine.regions.tap import RegionTap
from lt_det.engine.startup.setup import load_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.criterion import Criterion
from lt_det.meta.reweighter import ClassReweighter, class_histogram, region_weights

CONFIG = REPOSITORY / "configs" / "lvis_balms_r50.yaml"
NUM_CLASSES, NUM_IMAGES, HEIGHT, WIDTH = 1203, 16, 256, 320
REPEATS = 3
# Iterations of a timing through the detector: one image of the bank is renewed in ten.
ITERATIONS = 10


def write_images(folder: Path) -> list[str]:
    """Write noise with random boxes of all classes; return an entry for LT_DET.DATASETS."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(NUM_IMAGES):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        images.append(
            {
                "id": i + 1,
                "file_name": f"{i}.jpg",
                "height": HEIGHT,
                "width": WIDTH,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
        )
        for _ in range(12):
            x, y = generator.integers(0, WIDTH - 80), generator.integers(0, HEIGHT - 80)
            w, h = (int(v) for v in generator.integers(20, 80, 2))
            x, y = int(x), int(y)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": int(generator.integers(NUM_CLASSES)) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    categories = [{"id": k + 1, "name": f"class_{k}"} for k in range(NUM_CLASSES)]
    path = folder / "noise.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return ["noise", str(path), str(folder)]


def build_trainer(folder: Path, data: list[str], name: str, **keys: object) -> LongTailTrainer:
    """Return a trainer that is ready to step."""
    options = {
        "LT_DET.DATASETS": [data],
        "DATASETS.TRAIN": ("noise",),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.MIN_SIZE_TRAIN": (HEIGHT,),
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 1e-6,
        "MODEL.DEVICE": "cuda" if torch.cuda.is_available() else "cpu",
        "MODEL.WEIGHTS": str(folder / "stage1.pth"),
        "OUTPUT_DIR": str(folder / name),
        "SEED": 1,
        "LT_DET.META.BANK_IMAGES": 8,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    cfg = load_config(str(CONFIG), [str(x) for pair in options.items() for x in pair])
    if not (folder / "stage1.pth").exists():
        model = LongTailTrainer.build_model(cfg)
        torch.save({"model": model.state_dict()}, folder / "stage1.pth")
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._build_streams()
    trainer.model.train()
    return trainer


def released_scheme(trainer: LongTailTrainer) -> Any:
    """Return one iteration of the released scheme, re-stated on this package's detector.

    Three forwards of the detector: of the inner batch, whose step keeps its graph; of the meta
    batch with the stepped classifier, down whose loss psi moves; of the training batch again.
    In favour of the release: its batches are loaded beforehand, and its inner step is plain SGD,
    without momentum and weight decay. Against it: "losses" is computed beside the loss it needs.
    """
    detector, optimizer = trainer.model, trainer.optimizer
    reweighter = ClassReweighter(NUM_CLASSES).to(trainer.cfg.MODEL.DEVICE)
    adam = torch.optim.Adam(reweighter.parameters(), lr=0.01)
    plain = Criterion("sigmoid_ce")
    batches = itertools.cycle([next(iter(trainer._stream)) for _ in range(4)])
    prefix = "roi_heads.box_predictor.cls_score."

    def weighted_loss(stage: Any) -> torch.Tensor:
        weights = region_weights(
            reweighter(class_histogram(stage.labels, num_classes=NUM_CLASSES)), stage.labels
        )
        return (weights * stage.predictor.criterion.row_losses(stage.logits, stage.labels)).mean()

    def step() -> None:
        batch, meta_batch = next(batches), next(batches)
        parameters = dict(detector.roi_heads.box_predictor.cls_score.named_parameters())
        with EventStorage(), RegionTap(detector) as (stage,):
            detector(batch)
            loss = weighted_loss(stage)
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            stepped = {
                prefix + name: value - 0.02 * gradient
                for (name, value), gradient in zip(parameters.items(), gradients)
            }
            functional_call(detector, stepped, (meta_batch,))
            meta_loss = plain.mean_loss(stage.logits, stage.labels)
            adam.zero_grad()
            meta_loss.backward(inputs=[reweighter.psi])
            adam.step()
            losses = detector(batch)
            losses["loss_cls"] = weighted_loss(stage)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()

    return step


def repeated(step: Callable[[], object], iterations: int) -> Callable[[], None]:
    """Return what makes several steps."""

    def steps() -> None:
        for _ in range(iterations):
            step()

    return steps


def measure(
    folder: Path,
    *,
    repeats: int,
    iterations: int = ITERATIONS,
    peaks: bool = False,
    **common: object,
) -> Iterator[Row | str]:
    """Yield the rows, as soon as they are known, and last a sentence on the cache.

    Args:
        folder: empty; images, weights and runs go there.
        repeats: runs behind each median.
        iterations: of a run through the detector.
        peaks: whether to add rows of peak memory; on a GPU, where one process can measure it.
        common: options of every config, with "__" for ".".
    """
    data = write_images(folder)

    def trainer(run: str, **keys: object) -> LongTailTrainer:
        return build_trainer(folder, data, run, **{**common, **keys})

    plain = {"LT_DET__META__ENABLED": False}
    cache = {"LT_DET__REGION_CACHE__ENABLED": True}
    through_detector = {
        "plain": stepper(trainer("plain", **plain)),
        "forward": stepper(trainer("forward", LT_DET__META__REGIONS="forward")),
        "bank": stepper(trainer("bank", LT_DET__META__REGIONS="bank")),
        "fixed": stepper(
            trainer("fixed", LT_DET__META__REGIONS="bank", LT_DET__META__BANK_RENEWAL=0.0)
        ),
        "release": released_scheme(trainer("release", **plain)),
    }
    several = {name: repeated(step, iterations) for name, step in through_detector.items()}
    times = {key: ms / iterations for key, ms in median_ms(several, repeats=repeats).items()}
    renewed = "the default; one of 8 images renewed in ten iterations"
    for what, baseline, ours, target, note in (
        ("from the rolling bank, against a plain iteration", "plain", "bank", 1 / 1.15, renewed),
        ("from a bank that stays, against a plain iteration", "plain", "fixed", 1 / 1.15, ""),
        ("by a forward, against a plain iteration", "plain", "forward", 1 / 1.15, ""),
        ("from the rolling bank, against the released scheme", "release", "bank", 2, ""),
        ("by a forward, against the released scheme", "release", "forward", 2, ""),
    ):
        yield Row(
            f"BALMS, meta regions {what}",
            times[baseline],
            times[ours],
            "ms",
            target=target,
            baseline_name="plain stage 2" if baseline == "plain" else "released scheme",
            note=note,
        )
    from_cache, seconds = {}, []
    # The first one fills the cache, the second one finds it.
    for run, options in (("cached plain", plain), ("cached", {})):
        start = CLOCK()
        from_cache[run] = stepper(trainer(run.replace(" ", "_"), **options, **cache))
        seconds.append(CLOCK() - start)
    fill = 1e3 * (seconds[0] - seconds[1]) / NUM_IMAGES
    times |= median_ms(from_cache, repeats=max(4 * repeats, 12))
    yield from [
        Row(
            "plain second stage from cached regions",
            times["plain"],
            times["cached plain"],
            "ms",
            target=10,
            baseline_name="through the detector",
        ),
        Row(
            "BALMS from cached regions",
            times["forward"],
            times["cached"],
            "ms",
            target=10,
            baseline_name="through the detector",
        ),
    ]
    if peaks:
        steps = {**through_detector, **from_cache}
        mb = {name: max(peak_growth_mb(steps[name]), 0.1) for name in steps}
        yield from [
            Row(f"memory: {what}", mb["plain"], mb[name], "MB", baseline_name="plain stage 2")
            for what, name in (
                ("BALMS, meta regions by a forward", "forward"),
                ("plain second stage from cached regions", "cached plain"),
                ("BALMS from cached regions", "cached"),
            )
        ]
    yield (
        f"Filling the cache took {fill:.0f} ms an image, once: as much as "
        f"{2 * fill / times['plain']:.2f} plain iterations for each two images of the set."
    )


def main() -> None:
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        *rows, extra = measure(Path(name), repeats=REPEATS)
    write_rows(
        "stage2",
        rows,
        title="Second stage",
        about=(
            f"An iteration of `{CONFIG.relative_to(REPOSITORY)}` (Mask R-CNN R50-FPN, "
            f"{NUM_CLASSES:,} classes) with random weights: two images of {HEIGHT} x {WIDTH}, 512 "
            "regions each, loading included. The released scheme is re-stated here: three forwards "
            "of the detector and autograd through a plain SGD step of the classifier, meta batches "
            f"as the training batches. Through the detector a timing is {ITERATIONS} iterations, "
            "shown is one. Rows of the cache: its filling is not part of an iteration."
        ),
        command="python benchmarks/stage2.py",
        repeats=REPEATS,
        extra=extra,
    )


if __name__ == "__main__":
    main()
