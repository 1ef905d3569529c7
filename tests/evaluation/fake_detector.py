"""A registered data set and predictions for it, as a detector of Detectron2 gives them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_utils
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from lt_det.data.stats.class_stats import ClassStats
from tests.evaluation.lvis.sets import SIZE, random_detections

# Training-set images of a class, by position modulo 3: in another order than lvis_sets' "rcf".
IMAGE_COUNTS = (500, 50, 5)


def register(name: str, ground_truth: dict, folder: Path, *, with_mapping: bool = True) -> Path:
    """Write the json and give the metadata of ``name``; contiguous ids go by rising id."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(ground_truth))
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    categories = sorted(ground_truth["categories"], key=lambda c: c["id"])
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=str(path), thing_classes=[c["name"] for c in categories])
    if with_mapping:
        metadata.thing_dataset_id_to_contiguous_id = {c["id"]: k for k, c in enumerate(categories)}
    return path


def class_stats(ground_truth: dict) -> ClassStats:
    names = [c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"])]
    counts = tuple(IMAGE_COUNTS[k % 3] for k in range(len(names)))
    return ClassStats(
        name="train",
        class_names=tuple(names),
        image_counts=counts,
        instance_counts=counts,
        num_images=1000,
        source="annotations",
    )


def predictions(
    ground_truth: dict, *, seed: int, per_image: int = 20, with_masks: bool = True
) -> list[tuple[dict, dict]]:
    """One pair (input of the model, output of the model) an image."""
    records = random_detections(np.random.default_rng(seed), ground_truth, per_image=per_image)
    contiguous = {c: k for k, c in enumerate(sorted(c["id"] for c in ground_truth["categories"]))}
    pairs = []
    for image in ground_truth["images"]:
        mine = [r for r in records if r["image_id"] == image["id"]]
        boxes = torch.tensor([r["bbox"] for r in mine]).reshape(-1, 4)
        instances = Instances((SIZE, SIZE))
        instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        instances.scores = torch.tensor([r["score"] for r in mine])
        instances.pred_classes = torch.tensor(
            [contiguous[r["category_id"]] for r in mine], dtype=torch.int64
        )
        if with_masks:
            masks = [mask_utils.decode(r["segmentation"]) for r in mine]
            instances.pred_masks = torch.as_tensor(
                np.array(masks, dtype=bool).reshape(-1, SIZE, SIZE)
            )
        pairs.append(({"image_id": image["id"]}, {"instances": instances}))
    return pairs


def feed(evaluator, pairs: list[tuple[dict, dict]]) -> None:
    evaluator.reset()
    for model_input, model_output in pairs:
        evaluator.process([model_input], [model_output])
