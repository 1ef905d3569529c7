"""Ids of images and categories: any whole number that 64 bits hold, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.average_precision import BACKENDS, lvis_average_precision
from tests.evaluation.lvis.sets import random_detections, random_ground_truth


def renamed(content, records, *, image, category):
    """Return both with other ids."""
    images = [
        {
            **i,
            "id": image(i["id"]),
            **{
                key: [category(k) for k in i[key]]
                for key in ("neg_category_ids", "not_exhaustive_category_ids")
                if key in i
            },
        }
        for i in content["images"]
    ]

    def moved(one):
        ids = {"image_id": image(one["image_id"]), "category_id": category(one["category_id"])}
        return {**one, **ids}

    categories = [{**c, "id": category(c["id"])} for c in content["categories"]]
    annotations = [moved(a) for a in content["annotations"]]
    return (
        {"images": images, "annotations": annotations, "categories": categories},
        [moved(r) for r in records],
    )


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_ids_above_the_whole_numbers_of_a_double(iou_type, backend):
    rng = np.random.default_rng(0)
    content = random_ground_truth(rng)
    records = random_detections(rng, content, per_image=20)
    expected = lvis_average_precision(content, records, iou_type=iou_type, backend=backend)
    large = renamed(content, records, image=lambda i: 2**53 + i, category=lambda k: 2**62 + k)
    found = lvis_average_precision(*large, iou_type=iou_type, backend=backend)
    assert found.summary == pytest.approx(expected.summary, nan_ok=True)
    assert [c.ap50 for c in found.per_category] == pytest.approx(
        [c.ap50 for c in expected.per_category], nan_ok=True
    )


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("wrong", [7.5, "7", True, None, 2**63])
def test_other_ids_are_refused(key, wrong):
    record = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5, key: wrong}
    with pytest.raises(ValueError, match=f"'{key}' must be a whole number that 64 bits hold"):
        Detections.from_records([record])


def test_arrays_of_other_ids_are_refused():
    one = np.ones(1)
    with pytest.raises(ValueError, match="image_ids must be whole numbers, got float64"):
        Detections(image_ids=one * 1.5, category_ids=one.astype(int), scores=one)
    with pytest.raises(ValueError, match="category_ids must be whole numbers, got <U1"):
        Detections(image_ids=one.astype(int), category_ids=np.array(["1"]), scores=one)
