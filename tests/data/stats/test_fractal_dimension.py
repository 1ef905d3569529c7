"""Box-counting dimensions against a scalar restatement and known shapes."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.data.stats.fractal_dimension import box_centres, fractal_dimensions
from tests.reference.calibration import box_counting_dimension


def test_against_scalars():
    generator = np.random.default_rng(0)
    sizes = [0, 1, 3, 4, 8, 9, 50, 300]
    classes = np.repeat(np.arange(len(sizes)), sizes)
    centres = generator.random((len(classes), 2)) ** 2
    order = generator.permutation(len(classes))
    found = fractal_dimensions(centres[order], classes[order], num_classes=len(sizes))
    for class_id in range(len(sizes)):
        mine = [tuple(c) for c in centres[classes == class_id].tolist()]
        assert found[class_id] == pytest.approx(box_counting_dimension(mine)), class_id


def test_plane_line_and_point():
    steps = (np.arange(64) + 0.5) / 64
    plane = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    line = np.stack([np.linspace(0, 1, 4096, endpoint=False)] * 2, axis=1)
    point = np.full((4096, 2), 0.3)
    centres = np.concatenate([plane, line, point])
    found = fractal_dimensions(centres, np.repeat([0, 1, 2], 4096), num_classes=3)
    assert found.tolist() == pytest.approx([2.0, 1.0, 1.0], abs=1e-9)


def test_edges_few_objects_and_none():
    # The right and lower edge of the image belong to no cell.
    inside = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    edge = np.where(inside > 0.5, 1.0, inside)
    centres = np.concatenate([inside, edge, inside[:3], np.ones((9, 2))])
    classes = np.array([0] * 4 + [1] * 4 + [2] * 3 + [3] * 9)
    found = fractal_dimensions(centres, classes, num_classes=5)
    assert found.tolist() == pytest.approx([2.0, 1.0, 1.0, 1.0, 1.0])
    nothing = fractal_dimensions(np.zeros((0, 2)), np.zeros(0), num_classes=2)
    assert nothing.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"0\.\.1, got 0 to 2"):
        fractal_dimensions(np.zeros((3, 2)), np.arange(3), num_classes=2)
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        fractal_dimensions(np.zeros((2, 2)), np.arange(3), num_classes=3)


def test_centres_of_records():
    boxes = [([10, 20, 30, 40], 1), ([10, 20, 40, 60], 0), ([0.1, 0.1, 0.3, 0.2], 3)]
    annotations = [{"category_id": i, "bbox": b, "bbox_mode": m} for i, (b, m) in enumerate(boxes)]
    annotations.append({"category_id": 9, "bbox": [0, 0, 1, 1], "bbox_mode": 1, "iscrowd": 1})
    record = {"image_id": 7, "width": 100, "height": 200, "annotations": annotations}
    centres, classes = box_centres([record, {"image_id": 8, "annotations": []}])
    assert classes.tolist() == [0, 1, 2]
    assert centres.ravel().tolist() == pytest.approx([0.25, 0.2, 0.25, 0.2, 0.25, 0.2])
    with pytest.raises(ValueError, match="'bbox' of each object, not so in image 3"):
        box_centres([{"image_id": 3, "width": 1, "height": 1, "annotations": [{"category_id": 0}]}])
    assert box_centres([])[0].shape == (0, 2)
