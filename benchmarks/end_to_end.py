#!/usr/bin/env python
"""Images per second of training and inference, data loading included: Detectron2 and lt_det.

python benchmarks/end_to_end.py [--data FOLDER]

On the demo data, and on COCO photos whose 80 categories are mapped onto LVIS v1's 1,203. FOLDER
holds coco/train2017, coco/val2017, lvis/coco_mini_lvis_{train,val}.json and
lvis/lvis_v1_train_cat_info.json; by default it is $LT_DET_TEST_DATA or ../shared/data. Without it
the second half is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectors import (
    DEVICE,
    SIDES,
    built_detector,
    compare_detections,
    config_of,
    same_weights,
    scale_weights,
    spread_scores,
)
from detectron2.engine import DefaultTrainer
from iterations import stepper
from timing import REPOSITORY, Row, median_ms, write_rows
from torch import nn

from demo import build_emoji_scenes
from lt_det.engine.trainer import LongTailTrainer

REPEATS = 7
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
TRAINERS: dict[str, type[DefaultTrainer]] = {"stock": DefaultTrainer, "ours": LongTailTrainer}
#: of the loaders' batches that are compared
NUM_COMPARED = 3

Sets = list[list[str]]


def demo_sets(folder: Path) -> Sets:
    """Build a small demo set; return entries for LT_DET.DATASETS."""
    counts = [1 + k // 6 for k in range(80)]
    scenes = build_emoji_scenes(
        folder, num_classes=80, image_counts=counts, num_val_images=24, num_workers=1
    )
    return [
        ["emoji_scenes_train", str(scenes.train_json), str(scenes.root)],
        ["emoji_scenes_val", str(scenes.val_json), str(scenes.root)],
    ]


def coco_sets(folder: Path, data: Path) -> Sets:
    """Write the COCO photos' annotations with LVIS v1's categories, with its training counts.

    A category goes to the class of its synset; where there is none, to the first unused class.
    """
    categories = json.loads((data / "lvis" / "lvis_v1_train_cat_info.json").read_text())
    by_synset = {category["synset"]: category["id"] for category in categories}
    sets = []
    for split in ("train", "val"):
        content = json.loads((data / "lvis" / f"coco_mini_lvis_{split}.json").read_text())
        own = {c["id"]: by_synset.get(c["synset"]) for c in content["categories"]}
        unused = (c["id"] for c in categories if c["id"] not in set(own.values()))
        ids = {k: next(unused) if v is None else v for k, v in own.items()}
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]
        for image in content["images"]:
            for key in ("neg_category_ids", "not_exhaustive_category_ids"):
                image[key] = sorted({ids[k] for k in image[key]})
        content["categories"] = categories
        path = folder / f"coco_lvis_{split}.json"
        path.write_text(json.dumps(content))
        sets.append([f"coco_lvis_{split}", str(path), str(data / "coco" / f"{split}2017")])
    return sets


def demo_options() -> tuple[Path, dict[str, Any]]:
    return REPOSITORY / "configs" / "demo" / "stage1.yaml", {}


def coco_options() -> tuple[Path, dict[str, Any]]:
    options = {
        "MODEL.WEIGHTS": "",
        "SOLVER.IMS_PER_BATCH": 2,
        "INPUT.MIN_SIZE_TRAIN": (256,),
        "INPUT.MIN_SIZE_TEST": 256,
    }
    return REPOSITORY / "configs" / "lvis_v1" / "stage1_softmax_r50.yaml", options


def build_configs(folder: Path, file: Path, sets: Sets, options: dict[str, Any]) -> dict[str, Any]:
    """Return the config of each side; both load the same images, each without randomness."""
    (train, *_), (test, *_) = sets
    common = {
        "LT_DET.DATASETS": sets,
        "LT_DET.LOSS": "balanced_softmax",
        "LT_DET.PROGRESS_BAR": False,
        "DATASETS.TRAIN": (train,),
        "DATASETS.TEST": (test,),
        "DATALOADER.NUM_WORKERS": 0,
        # Seeded by SEED on both sides.
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 0.001,
        "INPUT.RANDOM_FLIP": "none",
        "SOLVER.BASE_LR": 1e-6,
        "SEED": 1,
        **options,
    }
    return {
        side: config_of(file, side, {**common, "OUTPUT_DIR": str(folder / f"{train}_{side}")})
        for side in SIDES
    }


def check_batches(configs: dict[str, Any]) -> None:
    """Raise unless both sides train on the same images, boxes and classes."""
    loaders = [TRAINERS[side].build_train_loader(cfg) for side, cfg in configs.items()]
    for batches in itertools.islice(zip(*loaders), NUM_COMPARED):
        for one, two in zip(*batches):
            same = torch.equal(one["image"], two["image"])
            one, two = one["instances"], two["instances"]
            same &= torch.equal(one.gt_boxes.tensor, two.gt_boxes.tensor)
            if not same or not torch.equal(one.gt_classes, two.gt_classes):
                raise SystemExit("the two loaders give other batches")


def build_trainers(configs: dict[str, Any]) -> dict[str, DefaultTrainer]:
    """Return a trainer of each side that is ready to step, with the same weights."""
    trainers = {side: TRAINERS[side](cfg) for side, cfg in configs.items()}
    scale_weights(trainers["stock"].model)
    same_weights(trainers["ours"].model, trainers["stock"].model)
    trainers["ours"]._build_streams()  # what its train() begins with
    return trainers


class Inferrer:
    """Each call loads the next image and detects; the detections are kept."""

    def __init__(self, model: nn.Module, loader: Iterable[list[dict]]) -> None:
        self.model = model
        self.outputs: list[dict] = []
        self._batches = iter(loader)

    @torch.no_grad()
    def __call__(self) -> None:
        self.outputs += self.model(next(self._batches))


def build_inferrers(configs: dict[str, Any]) -> dict[str, Inferrer]:
    """Return the test loader and model of each side, with the same weights."""
    models = {side: built_detector(cfg).eval() for side, cfg in configs.items()}
    name = configs["stock"].DATASETS.TEST[0]
    loaders = {side: TRAINERS[side].build_test_loader(cfg, name) for side, cfg in configs.items()}
    spread_scores(models["stock"], next(iter(loaders["stock"])))
    same_weights(models["ours"], models["stock"])
    return {side: Inferrer(models[side], loaders[side]) for side in SIDES}


def measure(name: str, configs: dict[str, Any], *, repeats: int, images: int) -> list[Row]:
    """Return the rows of one data set."""
    check_batches(configs)
    trainers = build_trainers(configs)
    steps = {side: stepper(trainer) for side, trainer in trainers.items()}
    times = median_ms(steps, repeats=repeats, clock=CLOCK)
    print(name, "training step", times, flush=True)
    batch = 1e3 * configs["ours"].SOLVER.IMS_PER_BATCH
    rows = [
        Row(
            f"{name}, training",
            *(batch / times[side] for side in SIDES),
            "images/s",
            note="same images",
        )
    ]
    del trainers, steps
    inferrers = build_inferrers(configs)
    times = median_ms(inferrers, repeats=images, clock=CLOCK)
    print(name, "inference", times, flush=True)
    outputs = [inferrers[side].outputs for side in SIDES]
    differing, total = compare_detections(*outputs)
    note = (
        f"{sum(len(o['instances']) for o in outputs[0]):,} equal detections in {len(outputs[0])} "
        f"images; {differing} of {total:,} mask pixels differ"
    )
    rows.append(
        Row(f"{name}, inference", *(1e3 / times[side] for side in SIDES), "images/s", note=note)
    )
    return rows


def main() -> None:
    default = os.environ.get("LT_DET_TEST_DATA") or REPOSITORY.parent / "shared" / "data"
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(default), help="see above")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="fewer for a quick look")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    extra = ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LT_DET_CACHE"] = str(folder / "cache")
        file, options = demo_options()
        configs = build_configs(folder, file, demo_sets(folder), options)
        rows = measure(
            "demo data, 80 classes", configs, repeats=args.repeats, images=3 * args.repeats
        )
        if (args.data / "coco").is_dir():
            file, options = coco_options()
            configs = build_configs(folder, file, coco_sets(folder, args.data), options)
            rows += measure(
                "COCO photos, 1,203 classes", configs, repeats=args.repeats, images=args.repeats
            )
        else:
            extra = "COCO photos with 1,203 classes: not measured, they are not on this machine."
            print(f"{extra} Looked for {args.data / 'coco'}; see --data")
    write_rows(
        "end_to_end",
        rows,
        title="End to end",
        about=(
            "From files to the updated weights, and from files to detections with masks at the "
            "photo's size; both sides from the same drawn weights on the same images. Detectron2: "
            "`DefaultTrainer`, its loaders, heads and cross-entropy. lt_det: `LongTailTrainer` "
            "with Balanced Softmax. Demo data: `configs/demo/stage1.yaml` (class-agnostic boxes "
            "and masks, 100 proposals, 8 images a step). COCO photos: "
            "`configs/lvis_v1/stage1_softmax_r50.yaml` at a shorter side of 256, 2 images a step, "
            "300 detections; categories mapped onto LVIS v1's by synset. Untrained, but with "
            "classification scores spread as after training. Boxes, scores and classes of all "
            "detections are equal to the last bit. Loading in the same process; one thread; on a "
            "CPU the time is the processor's."
        ),
        command="python benchmarks/end_to_end.py",
        repeats=args.repeats,
        extra=extra,
    )


if __name__ == "__main__":
    main()
