"""Draw validation images with ground truth beside the predictions of several methods."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from lt_det.report.figure_file import save_figure
from lt_det.report.image_sheet import small_image
from lt_det.shown_text import for_plot
from lt_det.storage.regular_file import open_regular

# Pixels of the longer side of an image on the sheet.
_LONGEST = 512


@dataclass(frozen=True)
class ComparedImage:
    """An image, what is in it, and what was found.

    Attributes:
        path: image file.
        truth: objects with "category_id" and "bbox" (XYWH in pixels).
        found: for each method its detections, with "score" besides.
    """

    path: str
    truth: Sequence[Mapping[str, Any]]
    found: Sequence[Sequence[Mapping[str, Any]]]


def save_prediction_sheet(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    predictions: Mapping[str, str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    num_images: int = 6,
    score_threshold: float = 0.2,
) -> None:
    """Draw one row an image: ground truth, then each method's detections above a score.

    Images with rare classes come first. A name is green where an object of that class with IoU
    of at least 0.5 is there, red where not.

    Args:
        json_file: LVIS-format ground truth with ``frequency``.
        image_root: where its images are.
        predictions: method -> json of detections in COCO's result format.
        path: picture file, written whole or not at all.
        num_images: rows.
        score_threshold: detections below it are not drawn.
    """
    with open_regular(json_file, "r", encoding="utf-8") as file:
        truth = json.load(file)
    names = {c["id"]: c["name"] for c in truth["categories"]}
    rare = {c["id"] for c in truth["categories"] if c.get("frequency") == "r"}
    objects = _by_image(truth["annotations"])
    detections = {}
    for method, file_name in predictions.items():
        with open_regular(file_name, "r", encoding="utf-8") as file:
            detections[method] = _by_image(
                [d for d in json.load(file) if d["score"] >= score_threshold]
            )
    images = sorted(
        truth["images"], key=lambda i: -len({a["category_id"] for a in objects[i["id"]]} & rare)
    )[:num_images]

    draw_prediction_sheet(
        [
            ComparedImage(
                os.path.join(image_root, image["file_name"]),
                objects[image["id"]],
                [per_image[image["id"]] for per_image in detections.values()],
            )
            for image in images
        ],
        path,
        titles=list(detections),
        names=names,
        rare=rare,
    )


def draw_prediction_sheet(
    images: Sequence[ComparedImage],
    path: str | os.PathLike[str],
    *,
    titles: Sequence[str],
    names: Mapping[int, str],
    rare: Container[int] = (),
    across: int = 1,
) -> None:
    """Draw ground truth and detections beside each other, one row an image.

    Args:
        images: at least one.
        path: picture file, written whole or not at all.
        titles: of the methods.
        names: category id -> name.
        rare: ids of rare categories.
        across: images in a row of the sheet.

    Raises:
        OSError: if an image cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 + len(titles)
    across = min(across, len(images))
    rows = -(-len(images) // across)
    figure = Figure(figsize=(3.2 * columns * across, 3.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns * across, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    cells = grid.reshape(rows * across, columns)
    for row, image in zip(cells, images):
        pixels, size = small_image(image.path, longest=_LONGEST)
        gt = image.truth
        labels = [
            f"{names[a['category_id']]}{' (rare)' if a['category_id'] in rare else ''}" for a in gt
        ]
        _draw(row[0], pixels, size, gt, labels, ["white"] * len(gt))
        for axes, found in zip(row[1:], image.found):
            labels = [f"{names[d['category_id']]} {d['score']:.2f}" for d in found]
            colours = ["#7CFC00" if _is_right(d, gt) else "#FF4040" for d in found]
            _draw(axes, pixels, size, found, labels, colours)
    for axes, title in zip(grid[0], ["ground truth", *titles] * across):
        axes.set_title(for_plot(title))
    save_figure(figure, path, dpi=80)


def _by_image(records: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    result: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        result[record["image_id"]].append(record)
    return result


def _is_right(detection: Mapping[str, Any], truth: Sequence[Mapping[str, Any]]) -> bool:
    boxes = [a["bbox"] for a in truth if a["category_id"] == detection["category_id"]]
    if not boxes:
        return False
    overlap = coco_mask.iou(
        np.array([detection["bbox"]], dtype=np.float64),
        np.array(boxes, dtype=np.float64),
        [0] * len(boxes),
    )
    return bool(np.max(overlap) >= 0.5)


def _draw(
    axes: Any,
    pixels: np.ndarray,
    size: tuple[int, int],
    records: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    colours: Sequence[str],
) -> None:
    from matplotlib.patches import Rectangle

    width, height = size  # boxes are in pixels of the file
    axes.imshow(pixels, extent=(0, width, height, 0))
    for record, label, colour in zip(records, labels, colours):
        x, y, w, h = record["bbox"]
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=1))
        axes.text(
            x + 1,
            max(y - 2, 4),
            for_plot(label),
            color=colour,
            fontsize=6,
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 0.5, "linewidth": 0},
        )
