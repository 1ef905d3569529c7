"""The page stays small with as many classes as LVIS v1 has."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from lt_det.report.run_page.writing import PageOptions, save_run_page

NUM_CLASSES = 1203


def write_large(folder, *, images: int) -> None:
    """Write three runs with all classes, and images that compress badly."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.jpg")
    for i in range(images):  # files of their own for the page
        os.link(folder / "noise.jpg", folder / f"{i}.jpg")
    names = [f"class_with_a_long_name_{k}" for k in range(NUM_CLASSES)]
    box = {"bbox": [10, 10, 80, 60]}
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 160, "height": 120} for i in range(images)
        ],
        "categories": [{"id": k + 1, "name": n} for k, n in enumerate(names)],
        "annotations": [
            {"id": k + 1, "image_id": k % images, "category_id": k + 1, **box}
            for k in range(NUM_CLASSES)
        ],
    }
    (folder / "val.json").write_text(json.dumps(content))
    found = [
        {"image_id": k % images, "category_id": k + 1, "score": 0.6, **box}
        for k in range(NUM_CLASSES)
    ]
    for run in range(3):
        inference = folder / f"run{run}x" / "inference"
        inference.mkdir(parents=True)
        categories = [
            {
                "category_id": k + 1, "name": name, "group": "rcf"[k % 3],
                "num_gt_instances": 1 + k, "AP": float(value), "AP50": 1.0,
            }
            for k, (name, value) in enumerate(zip(names, generator.uniform(0, 60, NUM_CLASSES)))
        ]  # fmt: skip
        summary = {"AP": 30.0, "APr": 30.0, "APc": 30.0, "APf": 30.0}
        result = {"iou_type": "bbox", "summary": summary, "categories": categories}
        (inference / "per_category_bbox.json").write_text(json.dumps(result))
        (inference / "coco_instances_results.json").write_text(json.dumps(found))


@pytest.mark.slow  # writes and reads 600 images
def test_at_most_15_mb_with_1203_classes(tmp_path):
    write_large(tmp_path, images=NUM_CLASSES)
    options = PageOptions(
        ground_truth=str(tmp_path / "val.json"), images=str(tmp_path), evaluate=False
    )
    runs = [(None, str(tmp_path / f"run{run}x")) for run in range(3)]
    page = save_run_page(runs, str(tmp_path / "out"), options)[0]
    assert os.path.getsize(page) <= 15e6
    text = (tmp_path / "out" / "report.html").read_text()
    assert "1,203 classes" in text
    # The images fill their part of the page, and it says that some are left out.
    assert sum(len(part.split("'")[0]) for part in text.split("data:image/jpeg")[1:]) > 7e6
    assert "classes have no image here" in text
