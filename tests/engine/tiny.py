"""A tiny long-tailed data set and config: whole trainings in seconds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from lt_det.data.annotations.datasets import register_from_config
from tests.modeling.small_models import NUM_CLASSES, small_config

SIDE = 64


def write_tiny_lvis(folder: Path, *, num_images: int = 8) -> tuple[str, str]:
    """Write coloured rectangles, one colour a class, as LVIS json + PNG; return both paths.

    Class 0 is in every image, class k in every 2^k-th. What is there already is left alone:
    another process may be reading it.
    """
    path = folder / "tiny.json"
    if path.exists():
        return str(path), str(folder / "images")
    generator = np.random.default_rng(0)
    images, annotations = [], []
    drawn = folder / f"images.{os.getpid()}"  # whole or not at all: see above
    drawn.mkdir(parents=True)
    for i in range(num_images):
        pixels = generator.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        present = [k for k in range(NUM_CLASSES) if i % 2**k == 0][:4]
        for slot, k in enumerate(present):
            x, y = 2 + 32 * (slot % 2), 2 + 32 * (slot // 2)
            w, h = 20 + 2 * slot, 24
            pixels[y : y + h, x : x + w] = (40 * k, 255 - 40 * k, 128)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": k + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        Image.fromarray(pixels).save(drawn / f"{i + 1}.png")
        images.append(
            {
                "id": i + 1,
                "file_name": f"{i + 1}.png",
                "width": SIDE,
                "height": SIDE,
                "neg_category_ids": [k + 1 for k in range(NUM_CLASSES) if k not in present],
                "not_exhaustive_category_ids": [],
            }
        )
    categories = [{"id": k + 1, "name": f"class_{k}"} for k in range(NUM_CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    try:
        drawn.rename(folder / "images")
    except OSError:  # the other one was faster
        shutil.rmtree(drawn)
    partial = folder / f"tiny.json.{os.getpid()}"
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
    return str(path), str(folder / "images")


def tiny_config(folder: Path, kind: str = "standard", **keys: object) -> CfgNode:
    """Return a config that trains on the tiny set into ``folder / "out"``."""
    json_file, root = write_tiny_lvis(folder)
    # A data set name belongs to one file for the whole process.
    name = f"tiny_{abs(hash(str(folder)))}"
    cfg = small_config(kind)
    cfg.LT_DET.DATASETS = [[name, json_file, root]]
    cfg.LT_DET.PROGRESS_BAR = False
    cfg.LT_DET.EVAL.PICTURES = False  # a second each
    cfg.LT_DET.META.BANK_IMAGES = 6
    cfg.LT_DET.META.BANK_RENEWAL = 0.5
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.MIN_SIZE_TRAIN = (SIDE,)
    cfg.INPUT.MIN_SIZE_TEST = SIDE
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.CHECKPOINT_PERIOD = 2
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SEED = 5
    cfg.OUTPUT_DIR = str(folder / "out")
    cfg.merge_from_list([part for k, v in keys.items() for part in (k.replace("__", "."), v)])
    register_from_config(cfg.LT_DET.DATASETS)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    return cfg
