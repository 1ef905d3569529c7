"""Folders of runs for tests of the page: ours, Detectron2's, and of balance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

#: A name that would run, were it not text.
EVIL = "<img src=x onerror=alert(1)>"
NAMES = ("cat", "dog", "owl", "newt", EVIL, "axolotl")
#: Training images: two frequent, two common, two rare classes.
COUNTS = (500, 300, 40, 30, 5, 2)
_SIZE = (120, 90)


def write_test_set(folder: Path, *, images: int = 12) -> Path:
    """Write images with one object of each of two classes, and return their json."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    groups = "ffccrr"
    for k, name in enumerate(NAMES):
        content["categories"].append({"id": k + 1, "name": name, "frequency": groups[k]})
    for i in range(images):
        pixels = generator.integers(0, 255, (_SIZE[1], _SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        size = {"width": _SIZE[0], "height": _SIZE[1]}
        content["images"].append({"id": i + 1, "file_name": f"{i}.jpg", **size})
        for j, k in enumerate((i % 6, (i + 2) % 6)):
            box = [5 + 55 * j, 10, 40, 50]
            x, y, w, h = box
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"id": 2 * i + j + 1, "image_id": i + 1, "category_id": k + 1, "bbox": box}
            content["annotations"].append(
                {**one, "area": w * h, "iscrowd": 0, "segmentation": [polygon]}
            )
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


def detections(val_json: Path, *, rare: float) -> list[dict]:
    """Return a detection an object; of rare classes also wrong ones, with score 0.5."""
    content = json.loads(val_json.read_text())
    found = []
    for one in content["annotations"]:
        is_rare = one["category_id"] > 4
        score = rare if is_rare else 0.9 - 0.01 * one["id"]
        x, y, w, h = one["bbox"]
        found.append(
            {**{k: one[k] for k in ("image_id", "category_id")}, "bbox": [x + 1, y, w, h],
             "score": score}
        )  # fmt: skip
        if is_rare:
            wrong = {**found[-1], "score": 0.5}
            found += [{**wrong, "category_id": 1}, {**wrong, "bbox": [0, 65, 20, 20]}]
    return found


def write_run(
    folder: Path, val_json: Path, *, loss: str = "softmax_ce", rare: float = 0.2, seed: int = 0
) -> Path:
    """Write the OUTPUT_DIR of a run of ours, whose detections are not evaluated yet."""
    (folder / "inference").mkdir(parents=True)
    found = detections(val_json, rare=rare)
    (folder / "inference" / "coco_instances_results.json").write_text(json.dumps(found))
    config = {
        "SEED": seed,
        "OUTPUT_DIR": str(folder),
        "DATASETS": {"TRAIN": ["zoo_train"], "TEST": ["zoo_val"]},
        "LT_DET": {"LOSS": loss, "DATASETS": [["zoo_val", str(val_json), str(val_json.parent)]]},
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "ROI_HEADS": {"SCORE_THRESH_TEST": 0.001, "NMS_THRESH_TEST": 0.5},
        },
        "TEST": {"DETECTIONS_PER_IMAGE": 100},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {"iteration": i, "meta/weight_rare": 1 + i / 40, "meta/weight_frequent": 1 - i / 60}
        for i in range(0, 60, 20)
    ]  # fmt: skip
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stats = {
        "name": "zoo_train", "class_names": list(NAMES), "image_counts": list(COUNTS),
        "instance_counts": list(COUNTS), "num_images": 600, "source": "annotations",
    }  # fmt: skip
    model = {
        "roi_heads.box_predictor.cls_score.weight": torch.arange(28.0).reshape(7, 4),
        "roi_heads.box_predictor.cls_score.bias": torch.linspace(0, 1, 7),
    }
    torch.save({"model": model, "class_stats": stats}, folder / "model_final.pth")
    return folder


def write_balance(folder: Path, *, images: bool = False) -> Path:
    """Write the output of lt-det balance, of a detector or of an image classifier."""
    folder.mkdir(parents=True)
    names = ("mean_class", "few", "medium", "many") if images else ("AP", "APr", "APc", "APf")
    limits = {} if images else {"score threshold": 0.001, "NMS": 0.5}
    rows = [
        {"candidate": name, "level": level, "settings": "", **limits,
         **dict(zip(names, (10.0 + n, 1.0 * n, 10.0, 20.0 - n)))}
        for n, (name, level) in enumerate(
            (("as trained", "as trained"), ("tau <b>", "calibration"), ("balms", "meta"))
        )
    ]  # fmt: skip
    gain = {names[1]: {"points": 2.0, "interval_95": [1.0, 3.0]}}
    task = "classification" if images else "segm"
    evaluated = {which: {task: dict(zip(names, (n, n, n, n)))}
                 for which, n in (("start", 3.0), ("balanced", 7.5))}  # fmt: skip
    content = {"objective": names[1], "chosen": rows[2], "start": rows[0],
               "cross_fitted_gain": gain, "notes": ["Two halves."], "candidates": rows,
               "evaluated": evaluated,
               "origin": {"commit": "abc123", "command": "lt-det balance"}}  # fmt: skip
    (folder / "balance_result.json").write_text(json.dumps(content))
    return folder
