"""AP from matches is that of the evaluation; weights stand for repeated images."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.evaluation.analysis.matches import match
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.weighted_ap import class_aps, group_means
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth

NUM_CLASSES = 7


def data(seed, *, num_images=24, federated=True, crowds=False):
    """Return a json and detections: many overlaps, equal scores, objects to ignore."""
    rng = np.random.default_rng(seed)
    images, annotations, rows = [], [], []
    for i in rng.permutation(num_images) + 1:
        present = sorted(set((rng.integers(1, NUM_CLASSES, 4) ** 2 % NUM_CLASSES + 1).tolist()))
        image = {"id": int(i), "height": 100, "width": 100}
        if federated:
            image["neg_category_ids"] = [k for k in (1, 2, 3, 7) if k not in present]
            image["not_exhaustive_category_ids"] = present[:1] if rng.random() < 0.5 else []
        images.append(image)
        for k in present:
            for _ in range(rng.integers(1, 5)):
                box = [*rng.integers(0, 60, 2).tolist(), *rng.integers(10, 40, 2).tolist()]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": int(i), "category_id": int(k),
                     "bbox": box, "area": box[2] * box[3],
                     "iscrowd": int(crowds and rng.random() < 0.2)}
                )  # fmt: skip
                for _ in range(rng.integers(0, 4)):
                    moved = (np.array(box) + rng.integers(-3, 4, 4)).clip(1).tolist()
                    label = int(k if rng.random() < 0.8 else rng.integers(1, NUM_CLASSES + 1))
                    rows.append((int(i), label, round(float(rng.random()), 1), moved))
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": k, "name": str(k), "frequency": "rcf"[k % 3]} for k in range(1, NUM_CLASSES + 1)
        ],
    }
    return content, rows


def detections_of(rows):
    return Detections.from_records(
        [{"image_id": i, "category_id": k, "score": s, "bbox": b} for i, k, s, b in rows]
    )


def evaluated(content, rows):
    found = lvis_average_precision(content, detections_of(rows), iou_type="bbox", max_dets=15)
    return [c.ap for c in found.per_category], found.summary


def groups_of(content):
    return [c["frequency"] for c in content["categories"]]


@pytest.mark.parametrize("federated", [True, False])
@pytest.mark.parametrize("crowds", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_evaluation(seed, federated, crowds):
    content, rows = data(seed, federated=federated, crowds=crowds)
    objects = Objects.of(read_ground_truth(content, with_masks=False))
    matches = match(objects, detections_of(rows), max_dets=15)
    aps = class_aps(objects, matches, np.ones((1, len(content["images"]))))
    expected, summary = evaluated(content, rows)
    np.testing.assert_allclose(aps[0], expected, rtol=0, atol=1e-9)
    for name, value in group_means(aps, groups_of(content)).items():
        np.testing.assert_allclose(value[0], summary[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_repeated_images(seed):
    content, rows = data(seed)
    objects = Objects.of(read_ground_truth(content, with_masks=False))
    matches = match(objects, detections_of(rows), max_dets=15)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (3, len(content["images"])))
    aps = class_aps(objects, matches, weights)
    for of_images, found in zip(weights, aps):
        repeated, new_rows = {**content, "images": [], "annotations": []}, []
        for image_id, times in zip(objects.image_ids.tolist(), of_images.tolist()):
            for copy in range(times):
                new = 100 * image_id + copy
                (image,) = (i for i in content["images"] if i["id"] == image_id)
                repeated["images"].append({**image, "id": new})
                repeated["annotations"] += [
                    {**a, "image_id": new, "id": 100 * a["id"] + copy}
                    for a in content["annotations"]
                    if a["image_id"] == image_id
                ]
                # Scores that differ: copies of equal ones have no order.
                new_rows += [
                    (new, k, s - 1e-5 * n, b)
                    for n, (i, k, s, b) in enumerate(rows)
                    if i == image_id
                ]
        distinct = [(i, k, s - 1e-5 * n, b) for n, (i, k, s, b) in enumerate(rows)]
        found = class_aps(
            objects, match(objects, detections_of(distinct), max_dets=15), of_images[None]
        )[0]
        expected, _ = evaluated(repeated, new_rows)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_higher_score_threshold_drops_the_tail():
    content, rows = data(1)
    objects = Objects.of(read_ground_truth(content, with_masks=False))
    matches = match(objects, detections_of(rows), max_dets=15).above(0.45)
    aps = class_aps(objects, matches, np.ones((1, len(content["images"]))))
    expected, _ = evaluated(content, [row for row in rows if row[2] > 0.45])
    np.testing.assert_allclose(aps[0], expected, rtol=0, atol=1e-9)
