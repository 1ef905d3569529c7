"""Random LVIS-format data sets and detections that hit every rule of the metric."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_utils

SIZE = 128  # side of an image, px
BOX = [10.0, 10.0, 40.0, 40.0]
FAR = [70.0, 70.0, 40.0, 40.0]


def one_image(**image) -> dict:
    """One object of category 1 at BOX; category 2 verified absent; 3 unknown; r, c, f in turn."""
    return {
        "images": [
            {
                "id": 7,
                "height": 128,
                "width": 128,
                "neg_category_ids": [2],
                "not_exhaustive_category_ids": [],
                **image,
            }
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": BOX, "area": 1600.0}],
        "categories": [
            {"id": k, "name": f"class {k}", "frequency": "rcf"[k - 1]} for k in (1, 2, 3)
        ],
    }


def found(category_id: int, box: list[float], score: float) -> dict:
    return {"image_id": 7, "category_id": category_id, "bbox": box, "score": score}


def random_box(rng: np.random.Generator) -> list[float]:
    # Log-uniform, so that small, medium and (rarely) large objects all occur.
    width, height = np.exp(rng.uniform(np.log(4), np.log(SIZE - 2), size=2))
    x, y = rng.uniform(0, SIZE - width), rng.uniform(0, SIZE - height)
    return [float(v) for v in (x, y, width, height)]


def shifted(box: list[float], rng: np.random.Generator) -> list[float]:
    x, y, width, height = box
    dx, dy, dw, dh = rng.normal(scale=0.08, size=4)
    return [x + dx * width, y + dy * height, width * np.exp(dw), height * np.exp(dh)]


def polygon(box: list[float], rng: np.random.Generator) -> list[list[float]]:
    x, y, width, height = box
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    radius = rng.uniform(0.6, 1.0, size=8) / 2
    xs, ys = (
        x + width / 2 + radius * width * np.cos(angles),
        y + height / 2 + radius * height * np.sin(angles),
    )
    return [np.stack([xs, ys], axis=1).clip(0, SIZE).ravel().tolist()]


def corners(box: list[float]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def rle(segmentation: list[list[float]]) -> dict:
    mask = mask_utils.merge(mask_utils.frPyObjects(segmentation, SIZE, SIZE))
    return {"size": mask["size"], "counts": mask["counts"].decode()}


def random_ground_truth(
    rng: np.random.Generator, *, num_images: int = 8, num_categories: int = 12
) -> dict:
    """Sparse ids, categories without objects, both lists, every third image empty."""
    category_ids = [3 * k + 2 for k in range(num_categories)]
    annotated = category_ids[: num_categories * 2 // 3]
    images, annotations = [], []
    for i in range(num_images):
        image_id = int(1000 - 7 * i)  # falling: the order in the file is not the order of ids
        present = []
        for _ in range(0 if i % 3 == 2 else int(rng.integers(1, 9))):
            box = random_box(rng)
            segmentation = polygon(box, rng)
            present.append(int(rng.choice(annotated)))
            area = float(mask_utils.area(rle(segmentation)))
            if rng.random() < 0.03:  # neither area nor extent: lvis-api drops the object
                area, box = 0.0, [*box[:2], 0.0, 0.0]
                segmentation = corners(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": present[-1],
                    "bbox": box,
                    "segmentation": segmentation,
                    "area": area,
                    "ignore": int(rng.random() < 0.05),
                }
            )
        absent = [c for c in category_ids if c not in present]
        images.append(
            {
                "id": image_id,
                "height": SIZE,
                "width": SIZE,
                "neg_category_ids": [int(c) for c in rng.permutation(absent)[:3]],
                "not_exhaustive_category_ids": [
                    int(c) for c in rng.permutation(category_ids)[: int(rng.integers(0, 4))]
                ],
            }
        )
    categories = [
        {"id": c, "name": f"class {c}", "frequency": "rcf"[k % 3]}
        for k, c in enumerate(category_ids)
    ]
    order = rng.permutation(num_categories)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [categories[k] for k in order],
    }


def random_detections(
    rng: np.random.Generator, ground_truth: dict, *, per_image: int, num_scores: int = 20
) -> list[dict]:
    """``per_image`` an image (none in every fourth), shuffled, with many equal scores."""
    category_ids = [c["id"] for c in ground_truth["categories"]]
    records = []
    for i, image in enumerate(ground_truth["images"]):
        objects = [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]]
        for _ in range(0 if i % 4 == 3 else per_image):
            category_id, box = int(rng.choice(category_ids)), random_box(rng)
            if objects and rng.random() < 0.5:
                target = objects[rng.integers(len(objects))]
                box = shifted(target["bbox"], rng)
                if rng.random() < 0.8:
                    category_id = target["category_id"]
            if rng.random() < 0.02:
                box[2] = 0.0  # no area
            records.append(
                {
                    "image_id": image["id"],
                    "category_id": category_id,
                    "bbox": box,
                    "score": float(rng.integers(1, num_scores + 1)) / num_scores,
                    "segmentation": rle(polygon(box, rng)),
                }
            )
    return [records[k] for k in rng.permutation(len(records))]
