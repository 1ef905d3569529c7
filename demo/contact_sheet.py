"""Draw many scenes with their masks in one picture."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lt_det.storage.atomic_write import atomic_file

_GOLDEN_ANGLE_DEG = 137.508  # consecutive hues far apart
_MASK_OPACITY = 0.55


def draw_contact_sheet(
    json_file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    num_images: int = 12,
    columns: int = 4,
    scale: int = 2,
) -> Path:
    """Write a sheet of scenes, each beside its masks with class names, and return its path.

    Args:
        json_file: LVIS-format annotations; pictures are found relative to its folder.
        output: PNG file to write.
        num_images: how many scenes, taken evenly from the split.
        columns: scenes in a row.
        scale: enlargement of the pictures.
    """
    json_file, output = Path(json_file), Path(output)
    content = json.loads(json_file.read_text(encoding="utf-8"))
    labels = {c["id"]: f"{c['name']} ({c['frequency']})" for c in content["categories"]}
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    step = max(len(content["images"]) // num_images, 1)
    records = content["images"][::step][:num_images]
    side = records[0]["width"] * scale
    rows = -(-len(records) // columns)
    sheet = Image.new("RGB", (2 * side * columns, side * rows), "white")
    for number, record in enumerate(records):
        with Image.open(json_file.parent / record["file_name"]) as file:
            picture = file.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        place = (2 * side * (number % columns), side * (number // columns))
        sheet.paste(picture, place)
        masked = _draw_masks(picture, annotations[record["id"]], labels=labels, scale=scale)
        sheet.paste(masked, (place[0] + side, place[1]))
    with atomic_file(output, "wb") as file:
        sheet.save(file, format="PNG")
    return output


def _draw_masks(
    picture: Image.Image, annotations: list[dict], *, labels: dict[int, str], scale: int
) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32)
    grey = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    for number, annotation in enumerate(annotations):
        stencil = Image.new("L", picture.size)
        pen = ImageDraw.Draw(stencil)
        for polygon in annotation["segmentation"]:
            # Pillow paints the border pixels too, hence the half pixel.
            pen.polygon([v * scale - 0.5 for v in polygon], fill=255)
        hue = int(number * _GOLDEN_ANGLE_DEG % 360)
        colour = np.array(Image.new("HSV", (1, 1), (hue * 255 // 360, 220, 255)).convert("RGB"))
        mask = np.asarray(stencil) > 0
        grey[mask] = (1 - _MASK_OPACITY) * grey[mask] + _MASK_OPACITY * colour.reshape(3)
    result = Image.fromarray(grey.astype(np.uint8))
    pen = ImageDraw.Draw(result)
    for annotation in annotations:
        x, y, width, height = (v * scale for v in annotation["bbox"])
        pen.rectangle((x, y, x + width - 1, y + height - 1), outline="white")
        text = labels[annotation["category_id"]]
        corner = (min(x, picture.width - 6 * len(text)), max(y - 10, 0))
        pen.rectangle((*corner, corner[0] + 6 * len(text), corner[1] + 10), fill="black")
        pen.text(corner, text, fill="white")
    return result
