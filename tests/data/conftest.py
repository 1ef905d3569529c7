"""A small LVIS-format set with all the oddities the readers must take, and the real ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_det.data.warn_once import warn_once

# Ids neither contiguous nor sorted; image 9 has no annotation, image 7 only a crowd of cats.
TINY: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "nine.jpg", "height": 10, "width": 20},
        {"id": 2, "file_name": "two.jpg", "height": 10, "width": 20},
        {"id": 7, "file_name": "seven.jpg", "height": 10, "width": 20},
        {"id": 3, "file_name": "three.jpg", "height": 10, "width": 20},
    ],
    "categories": [
        {"id": 50, "name": "dog"},
        {"id": 4, "name": "cat"},
        {"id": 11, "name": "yak"},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 50, "bbox": [0, 0, 5, 5]},
        {"id": 2, "image_id": 2, "category_id": 50, "bbox": [1, 1, 5, 5]},
        {"id": 3, "image_id": 2, "category_id": 4, "bbox": [1, 1, 0, 5]},
        {"id": 4, "image_id": 3, "category_id": 50, "bbox": [1, 1, 5, 5]},
        {"id": 5, "image_id": 7, "category_id": 4, "bbox": [1, 1, 5, 5], "iscrowd": 1},
    ],
}


@pytest.fixture(autouse=True)
def _no_warning_given_yet() -> None:
    warn_once.cache_clear()


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Cat: 1 image, 1 instance; yak: none; dog: 2 images, 3 instances; 2 images in all."""
    content = copy.deepcopy(TINY)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    return content


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_json(content: Any, file_name: str = "set.json") -> Path:
        path = tmp_path / file_name
        path.write_text(json.dumps(content))
        return path

    return write_json


@pytest.fixture(scope="session")
def mini_lvis(shared_data: Path) -> Path:
    return shared_data / "lvis" / "coco_mini_lvis_train.json"


@pytest.fixture(scope="session")
def lvis_v0_5(shared_data: Path) -> Path:
    return shared_data / "lvis" / "lvis_v0.5_val_100.json"


@pytest.fixture
def catalog():
    """Names given out for a test, forgotten by Detectron2 afterwards."""
    data = pytest.importorskip("detectron2.data")
    before = set(data.DatasetCatalog.list()), set(data.MetadataCatalog.list())
    yield data
    for name in set(data.DatasetCatalog.list()) - before[0]:
        data.DatasetCatalog.remove(name)
    for name in set(data.MetadataCatalog.list()) - before[1]:
        data.MetadataCatalog.remove(name)
