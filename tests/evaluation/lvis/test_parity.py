"""Both backends against lvis-api run as its authors do, to 1e-9."""

from __future__ import annotations

import json

import numpy as np
import pycocotools.mask as mask_utils
import pytest

from lt_det.evaluation.lvis.average_precision import BACKENDS, METRICS, lvis_average_precision
from tests.evaluation.lvis.sets import corners, random_detections, random_ground_truth, shifted
from tests.reference.lvis_ap import lvis_api


def assert_equals_lvis_api(ground_truth, records, *, iou_type, max_dets, backend, folder) -> None:
    summary, precision = lvis_api(
        ground_truth, records, iou_type=iou_type, max_dets=max_dets, folder=folder
    )
    result = lvis_average_precision(
        ground_truth, records, iou_type=iou_type, max_dets=max_dets, backend=backend
    )
    # By hand, not with the package's own mean: the order of the categories is tested, too.
    ids = sorted(c["id"] for c in ground_truth["categories"])
    assert [c.category_id for c in result.per_category] == ids
    for k, category in enumerate(result.per_category):
        curves = precision[:, :, k, 0]
        if curves.min() == -1:
            assert np.isnan([category.ap, category.ap50, category.ap75]).all()
        else:
            expected = 100 * np.array([curves.mean(), curves[0].mean(), curves[5].mean()])
            np.testing.assert_allclose(
                [category.ap, category.ap50, category.ap75], expected, rtol=0, atol=1e-9
            )
    expected = [100 * summary[m] if summary[m] > -1 else np.nan for m in METRICS]
    actual = [result.summary[m] for m in METRICS]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9, equal_nan=True)
    assert list(result.summary) == list(METRICS)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(8))
def test_equals_lvis_api_on_random_sets(seed, iou_type, backend, tmp_path):
    rng = np.random.default_rng(seed)
    ground_truth = random_ground_truth(rng)
    records = random_detections(rng, ground_truth, per_image=[3, 12, 40, 100][seed % 4])
    assert_equals_lvis_api(
        ground_truth, records, iou_type=iou_type, max_dets=300, backend=backend, folder=tmp_path
    )


@pytest.mark.parametrize("max_dets", [5, 300, 1000])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_lvis_api_with_more_than_300_detections_an_image(iou_type, max_dets, tmp_path):
    rng = np.random.default_rng(100)
    ground_truth = random_ground_truth(rng, num_images=5)
    records = random_detections(rng, ground_truth, per_image=420)
    assert_equals_lvis_api(
        ground_truth,
        records,
        iou_type=iou_type,
        max_dets=max_dets,
        backend="hotcoco",
        folder=tmp_path,
    )


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_lvis_api_on_real_lvis(iou_type, shared_data, tmp_path):
    ground_truth = json.loads((shared_data / "lvis" / "lvis_v0.5_val_100.json").read_text())
    records = real_detections(ground_truth, np.random.default_rng(3))
    assert_equals_lvis_api(
        ground_truth, records, iou_type=iou_type, max_dets=300, backend="hotcoco", folder=tmp_path
    )


def real_detections(ground_truth: dict, rng: np.random.Generator) -> list[dict]:
    """Objects found well, badly and as something else; 400 more detections in some images."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    category_ids = [c["id"] for c in ground_truth["categories"]]
    records = []

    def add(image_id: int, category_id: int, box: list[float], segmentation: list, score) -> None:
        mask = mask_utils.merge(mask_utils.frPyObjects(segmentation, *sizes[image_id]))
        records.append(
            {
                "image_id": image_id,
                "category_id": int(category_id),
                "bbox": box,
                "score": float(score),
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            }
        )

    for annotation in ground_truth["annotations"]:
        image_id, right = annotation["image_id"], annotation["category_id"]
        add(image_id, right, annotation["bbox"], annotation["segmentation"], rng.random())
        for _ in range(2):
            box = shifted(annotation["bbox"], rng)
            category_id = right if rng.random() < 0.7 else rng.choice(category_ids)
            add(image_id, category_id, box, corners(box), rng.integers(1, 20) / 20)
    for image in ground_truth["images"][:10]:
        listed = (
            image["neg_category_ids"] + image["not_exhaustive_category_ids"] + category_ids[:40]
        )
        for _ in range(400):
            box = [float(v) for v in rng.uniform([0, 0, 2, 2], [300, 300, 200, 200])]
            add(image["id"], rng.choice(listed), box, corners(box), rng.integers(1, 20) / 40)
    return records
