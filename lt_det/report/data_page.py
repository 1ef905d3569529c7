"""Page of an inspected data set: what is wrong, the long tail, sizes, places, rarest classes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.checks import box_is_valid
from lt_det.data.inspection.data_sets import InspectedFile, Inspection
from lt_det.data.inspection.findings import Finding
from lt_det.data.inspection.labelled_images import ImageInspection
from lt_det.data.inspection.outlook import Outlook
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES, SHOT_NAMES
from lt_det.report.class_stats_plot import GROUP_COLOURS
from lt_det.report.image_sheet import shortened, small_image
from lt_det.report.page import Picture, Section, figure_picture, pixels_picture, save_page
from lt_det.shown_text import for_plot

# Images of the rarest classes on the page, and pixels of their longer side.
_IMAGES, _LONGEST = 24, 240
# Most classes whose names stand below the long tail.
_NAMED = 40


def save_data_page(
    inspection: Inspection, path: str | os.PathLike[str], *, texts: Sequence[str] = ()
) -> None:
    """Write the page of an inspection.

    Args:
        inspection: of the data sets.
        path: html file, written whole or not at all.
        texts: sentences about the training.
    """
    sections = [_findings(inspection.findings)]
    if inspection.outlook is not None:
        sections += [
            _tail(inspection.outlook.train, texts, GROUP_NAMES),
            *_shapes(inspection.files),
        ]
        sections += _rarest(inspection.outlook, inspection.files)
        sections.append(_classes(inspection.outlook))
    names = ", ".join(os.path.basename(os.fspath(file.json.path)) for file in inspection.files)
    save_page(f"Data: {names}", sections, path)


def save_images_page(
    inspection: ImageInspection, path: str | os.PathLike[str], *, texts: Sequence[str] = ()
) -> None:
    """Write the page of an inspection of images to classify.

    Args:
        inspection: of the folders or csv files.
        path: html file, written whole or not at all.
        texts: sentences about the training.
    """
    sections = [_findings(inspection.findings)]
    if inspection.outlook is not None:
        stats, val = inspection.outlook.train, inspection.outlook.val
        order = sorted(range(stats.num_classes), key=lambda k: (stats.image_counts[k], k))
        first: dict[str, str] = {}
        for one in inspection.sets:
            for file, label in zip(one.paths if one.train else (), one.labels.tolist()):
                first.setdefault(one.class_names[label], file)
        pictures = []
        for k in [k for k in order if stats.class_names[k] in first][:_IMAGES]:
            with contextlib.suppress(OSError, ValueError):  # said among the findings
                pixels = small_image(first[stats.class_names[k]], longest=_LONGEST)[0]
                caption = _images(stats.class_names[k], stats.image_counts[k])
                pictures.append(pixels_picture(pixels, caption))
        rows = [
            (
                stats.class_names[k],
                SHOT_NAMES[stats.frequency_groups[k]],
                stats.image_counts[k],
                "–" if val is None else val[k],
            )
            for k in reversed(order)
        ]
        sections += [
            _tail(stats, texts, SHOT_NAMES),
            Section("The rarest classes", pictures=pictures, small=True),
            Section("Classes", (), ("class", "group", "train images", "val images"), rows),
        ]
    save_page(f"Data: {', '.join(one.source for one in inspection.sets)}", sections, path)


def _findings(findings: Sequence[Finding]) -> Section:
    return Section(
        "What is wrong",
        texts=[] if findings else ["Nothing is wrong."],
        header=("harm", "kind", "what, and what to do"),
        rows=[(one.harm, one.kind, f"{one.file}: {one.text()}") for one in findings],
    )


def _plain(value: float, _: int) -> str:
    """Return a tick of a logarithmic axis as a plain number."""
    return f"{value:g}"


def _images(name: str, images: int) -> str:
    return f"{name}: {images} training image{'s' if images != 1 else ''}"


def _figure(columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * columns if columns > 1 else 9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _tail(stats: ClassStats, texts: Sequence[str], names: Mapping[str, str]) -> Section:
    counts = np.array(stats.image_counts)
    order = np.argsort(-counts, kind="stable")
    figure, (axes,) = _figure()
    colours = [GROUP_COLOURS[stats.frequency_groups[k]] for k in order]
    axes.bar(range(len(order)), counts[order], width=1.0, color=colours)
    axes.set(yscale="log", xlabel="classes, most frequent first", ylabel="training images")
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_formatter("")
    if len(order) <= _NAMED:
        labels = [for_plot(shortened(stats.class_names[k], 24)) for k in order]
        axes.set_xticks(range(len(order)), labels, rotation=45, ha="right")
    caption = (
        f"Training images of each class: {names['r']} orange-red, {names['c']} yellow, "
        f"{names['f']} blue."
    )
    return Section("The long tail", texts, pictures=[figure_picture(figure, caption)])


def _shapes(files: Sequence[InspectedFile]) -> list[Section]:
    """Return sizes and places of objects, and objects an image, of the training files."""
    sides, centres = [], []
    numbers: list[int] = []
    for content in (f.mended for f in files if f.train and f.mended is not None):
        sizes = {i["id"]: (i.get("width"), i.get("height")) for i in content["images"]}
        on_image = dict.fromkeys(sizes, 0)
        for one in content["annotations"]:
            size = sizes.get(one.get("image_id"))
            if size is None or not box_is_valid(one.get("bbox")):
                continue
            on_image[one["image_id"]] += 1
            x, y, w, h = one["bbox"]
            sides.append((w * h) ** 0.5)
            if all(size):
                centres.append(((x + w / 2) / size[0], (y + h / 2) / size[1]))
        numbers += on_image.values()
    if not sides or not centres:
        return []
    figure, (size_axes, place_axes, number_axes) = _figure(3)
    positive = np.maximum(sides, 1.0)
    bins = np.geomspace(positive.min(), positive.max() * 1.01, 40)
    size_axes.hist(positive, bins=bins, color="#0072B2")
    for side in (32, 96):  # COCO's limits of small and medium objects
        size_axes.axvline(side, color="grey", linestyle=":")
    size_axes.set(xscale="log", xlabel="square root of the box in pixels", ylabel="objects")
    x, y = np.array(centres).T
    place_axes.hist2d(x, y, bins=24, range=[[0, 1], [0, 1]], cmap="viridis")
    place_axes.set(xlabel="x of the centre", ylabel="y of the centre", ylim=(1, 0))
    number_axes.hist(numbers, bins=min(max(numbers) + 1, 40), color="#0072B2")
    number_axes.set(yscale="log", xlabel="objects of an image", ylabel="images")
    number_axes.yaxis.set_major_formatter(_plain)
    number_axes.yaxis.set_minor_formatter("")
    size_axes.xaxis.set_major_formatter(_plain)
    size_axes.xaxis.set_minor_formatter("")
    caption = "Sizes (dotted: 32 and 96 pixels), places as shares of the image, objects an image."
    return [Section("Objects", pictures=[figure_picture(figure, caption)])]


def _rarest(outlook: Outlook, files: Sequence[InspectedFile]) -> list[Section]:
    counts = outlook.train.image_counts
    order = sorted((k for k in range(len(counts)) if counts[k]), key=lambda k: (counts[k], k))
    wanted = {outlook.train.class_names[k]: None for k in order[:_IMAGES]}
    found: dict[str, tuple[str, Mapping[str, Any], int]] = {}
    for file in files:
        if not file.train or file.mended is None or file.image_root is None or not file.paths:
            continue
        names = {c["id"]: str(c["name"]) for c in file.mended["categories"]}
        paths = {i["id"]: p for i, p in zip(file.mended["images"], file.paths)}
        for one in file.mended["annotations"]:
            name, path = names.get(one.get("category_id")), paths.get(one.get("image_id"))
            if name in wanted and name not in found and path and box_is_valid(one.get("bbox")):
                found[name] = (path, one, counts[outlook.train.class_names.index(name)])
    pictures = [_object(name, *found[name]) for name in wanted if name in found]
    shown = [picture for picture in pictures if picture is not None]
    return [Section("The rarest classes", pictures=shown, small=True)] if shown else []


def _object(name: str, path: str, one: Mapping[str, Any], images: int) -> Picture | None:
    from PIL import Image, ImageDraw

    try:
        pixels, size = small_image(path, longest=_LONGEST)
    except (OSError, ValueError):
        return None  # said among the findings
    scale = pixels.shape[1] / size[0]
    x, y, w, h = (value * scale for value in one["bbox"])
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).rectangle((x, y, x + w, y + h), outline=(255, 80, 0), width=2)
    return pixels_picture(np.asarray(picture), _images(name, images))


def _classes(outlook: Outlook) -> Section:
    stats = outlook.train
    order = sorted(range(stats.num_classes), key=lambda k: (-stats.image_counts[k], k))
    return Section(
        "Classes",
        header=("class", "group", "train images", "objects", "val images", "objects", "repeats"),
        rows=[
            (
                stats.class_names[k],
                GROUP_NAMES[stats.frequency_groups[k]],
                stats.image_counts[k],
                stats.instance_counts[k],
                *(("–", "–") if outlook.val is None else outlook.val[k]),
                round(outlook.factors[k], 2),
            )
            for k in order
        ],
    )
