"""Synthetic LVIS: a json and detections of any size with the statistics that decide the cost.

LVIS v1 in numbers: 1,203 categories with Zipf-like frequencies; train 100,170 images with
1,270,141 annotations, validation 19,809 with 244,707; polygons of 27 numbers on average, some of
two parts; images with lists of verified absent and of not exhaustively annotated categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

NUM_CATEGORIES = 1203
TRAIN_IMAGES, VAL_IMAGES = 100_170, 19_809
ANNOTATIONS_PER_IMAGE = 12.5
WIDTH, HEIGHT = 640, 480


def categories(num_images: int) -> list[dict[str, Any]]:
    """Return the categories with the counts and groups of a training split of that size."""
    frequency = class_frequency()
    counts = np.maximum(frequency * num_images * ANNOTATIONS_PER_IMAGE / 3, 1).astype(int)
    return [
        {
            "id": k + 1,
            "name": f"class {k + 1}",
            "image_count": int(counts[k]),
            "instance_count": int(3 * counts[k]),
            "frequency": "r" if counts[k] <= 10 else "c" if counts[k] <= 100 else "f",
        }
        for k in range(NUM_CATEGORIES)
    ]


def class_frequency() -> np.ndarray:
    """Return ``(K,)`` probabilities, Zipf's law in an order that is not that of the ids."""
    rank = np.random.default_rng(0).permutation(NUM_CATEGORIES) + 2
    return (1 / rank**1.3) / (1 / rank**1.3).sum()


def write_json(path: Path, *, num_images: int, seed: int = 0) -> None:
    """Write an LVIS-format json; memory does not grow with ``num_images``."""
    images: list[str] = []
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"categories": ' + json.dumps(categories(num_images)) + ', "annotations": [')
        number = 0
        for image, annotations in tqdm(
            annotated_images(num_images=num_images, seed=seed),
            total=num_images,
            desc=path.name,
            disable=None,
        ):
            images.append(json.dumps(image))
            for annotation in annotations:
                file.write(", " if number else "")
                number += 1
                file.write(json.dumps({"id": number, **annotation}))
        file.write('], "images": [' + ", ".join(images) + "]}")


def annotated_images(
    *, num_images: int, seed: int = 0
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the entry of an image and those of its annotations."""
    rng = np.random.default_rng(seed)
    frequency = class_frequency()
    for index in range(num_images):
        image_id = 3 * index + 9
        # A few categories an image, several objects of each.
        drawn = rng.choice(NUM_CATEGORIES, size=rng.integers(1, 6), p=frequency) + 1
        present = rng.choice(drawn, size=rng.poisson(ANNOTATIONS_PER_IMAGE))
        others = rng.choice(NUM_CATEGORIES, size=16, p=frequency) + 1
        found = set(present.tolist())
        image = {
            "id": image_id,
            "height": HEIGHT,
            "width": WIDTH,
            "coco_url": f"http://images.cocodataset.org/train2017/{image_id:012d}.jpg",
            "flickr_url": f"http://farm.staticflickr.com/{image_id}_z.jpg",
            "date_captured": "2013-11-14 17:02:52",
            "license": 4,
            "neg_category_ids": sorted({c for c in others.tolist() if c not in found}),
            "not_exhaustive_category_ids": sorted(c for c in found if rng.random() < 0.1),
        }
        boxes = random_boxes(rng, len(present)).round(2).tolist()
        yield (
            image,
            [
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": round(0.7 * box[2] * box[3], 2),
                    "segmentation": polygons(box, rng),
                }
                for category_id, box in zip(present.tolist(), boxes)
            ],
        )


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return ``(count, 4)`` XYWH in pixels within the image, from 5 px to most of it."""
    sides = np.exp(rng.uniform(np.log(5), np.log(400), size=(count, 2)))
    corners = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, sides], axis=1)


def polygons(box: list[float], rng: np.random.Generator) -> list[list[float]]:
    """Return one polygon of 10 to 17 points or, one time in ten, two."""
    x, y, width, height = box
    parts = []
    for _ in range(1 + (rng.random() < 0.1)):
        points = int(rng.integers(10, 18))
        angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
        radius = rng.uniform(0.35, 0.5, size=points)
        xy = np.stack(
            [
                x + width * (0.5 + radius * np.cos(angles)),
                y + height * (0.5 + radius * np.sin(angles)),
            ],
            axis=1,
        )
        parts.append(xy.round(2).ravel().tolist())
    return parts


def image_detections(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    *,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float32 XYXY boxes, float32 scores and contiguous classes, as a detector would.

    A third of the ``count`` detections lie near an object, mostly under its category; the rest
    are anywhere, of the categories that the image mentions or, more often, of any other.
    """
    near = min(count // 3, 8 * len(annotations))
    boxes = random_boxes(rng, count)
    classes = rng.integers(0, NUM_CATEGORIES, size=count)
    mentioned = image["neg_category_ids"] or [1]
    known = rng.random(count) < 0.3
    classes[known] = rng.choice(mentioned, size=int(known.sum())) - 1
    scores = rng.random(count) ** 3 * 0.7
    if near:
        rows = rng.integers(len(annotations), size=near)
        truth = np.array([a["bbox"] for a in annotations])[rows]
        boxes[:near] = truth + truth[:, [2, 3, 2, 3]] * rng.normal(scale=0.08, size=(near, 4))
        right = rng.random(near) < 0.7
        labels = np.array([a["category_id"] for a in annotations])[rows] - 1
        classes[:near] = np.where(right, labels, classes[:near])
        scores[:near] += 0.3 * right
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1) + boxes[:, :2]
    order = np.argsort(-scores, kind="stable")
    return (
        boxes[order].astype(np.float32),
        scores[order].astype(np.float32),
        classes[order].astype(np.int64),
    )
