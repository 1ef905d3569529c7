"""Image files, opened in parallel: unreadable ones, other sizes than declared, odd colours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from lt_det.data.annotations.schema import has_size
from lt_det.data.images.depth import deep_images
from lt_det.data.images.file_end import may_be_cut
from lt_det.data.inspection.findings import Finding, Harm, of_images
from lt_det.data.inspection.ids import size_of_texts

_ORIENTATION = 274  # EXIF tag
# Orientations in which width and height change places, and those that are none.
_TURNED, _UPRIGHT = (5, 6, 7, 8), (None, 0, 1)


@dataclass(frozen=True)
class ImageFacts:
    """What a file says of itself.

    Attributes:
        problem: why it cannot be read; "" if it can.
        size: width and height of its pixels, before it is turned upright.
        mode: PIL's.
        orientation: EXIF's, None without one.
        has_alpha: whether it has transparency.
        is_doubtful: whether its end looks cut and it was not decoded.
    """

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    orientation: int | None = None
    has_alpha: bool = False
    is_doubtful: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as training reads the image."""
        return self.size[::-1] if self.orientation in _TURNED else self.size


def read_images(
    paths: Sequence[str], *, quick: bool = False, most_decoded: int | None = None
) -> list[ImageFacts]:
    """Return the facts of image files, with a progress bar.

    Args:
        paths: N files.
        quick: read headers and ends, and decode only what looks cut.
        most_decoded: most files to decode with ``quick``, from all over; None for all that look
            cut. The others are doubtful.
    """
    facts = list(_each(paths, quick, "Reading image headers" if quick else "Reading images"))
    doubtful = [row for row, fact in enumerate(facts) if fact.is_doubtful]
    rows = doubtful[:: -(-len(doubtful) // most_decoded)] if most_decoded and doubtful else doubtful
    for row, fact in zip(rows, _each([paths[row] for row in rows], False, "Decoding images")):
        facts[row] = fact
    return facts


def _each(paths: Sequence[str], quick: bool, what: str) -> Iterator[ImageFacts]:
    workers = min(16, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's, about sizes and EXIF; what matters is a finding
        yield from tqdm(
            pool.map(lambda path: _facts(path, quick), paths),
            total=len(paths),
            desc=what,
            unit="image",
            delay=1,
            leave=False,
        )


def image_file_findings(
    file: str,
    images: Sequence[Mapping[str, Any]],
    paths: Mapping[int, str],
    facts: Mapping[int, ImageFacts],
    *,
    train: bool,
) -> list[Finding]:
    """Return what is wrong with the files of a json's images.

    Args:
        file: the json, for the findings.
        images: its entries.
        paths: row -> path, of the files that are there.
        facts: row -> what was read.
        train: whether they are trained on, not only evaluated.
    """
    readable = {row: fact for row, fact in facts.items() if not fact.problem}
    # One judge of depth for this and for the start of a training.
    modes = {row: paths[row] for row, f in readable.items() if f.mode[:1] in ("I", "F")}
    deep = set(deep_images(modes.values()))
    rotated: list[int] = []
    other: list[int] = []
    turned: list[int] = []
    details: dict[int, str] = {
        **{row: fact.problem for row, fact in facts.items() if fact.problem},
        **{row: f"mode {readable[row].mode}" for row in modes},
    }
    for row, fact in readable.items():
        declared = size_of_texts(images[row])
        if declared is None and has_size(images[row]):
            declared = (images[row]["width"], images[row]["height"])
        if declared is None:
            continue
        if declared == fact.upright_size:
            if fact.orientation not in _UPRIGHT:
                turned.append(row)
                details[row] = f"orientation {fact.orientation}"
            continue
        (rotated if declared == fact.size else other).append(row)
        details[row] = f"json {_shape(declared)}, file {_shape(fact.upright_size)}"
    empty = [row for row, fact in facts.items() if fact.problem == _EMPTY]
    broken = [row for row, fact in facts.items() if fact.problem not in ("", _EMPTY)]
    cases: list[tuple[list[int], Harm, str, str, str]] = [
        (
            empty, "error", "empty-image", "the file has no bytes",
            "copy them again, or take the images out of the json",
        ),
        (
            broken, "error", "broken-image", "the file is cut off or no image",
            "copy them again, or take the images out of the json",
        ),
        (
            rotated, "error", "image-rotated",
            "the file is to be turned by its EXIF orientation, the json has the size before",
            "training turns images and stops at the size: save them upright without the tag, or "
            "annotate the upright ones",
        ),
        (
            other, "error", "image-size", "the file has another size than the json says",
            "training stops there: were images resized after the export? Boxes are then wrong too",
        ),
        (
            [row for row in modes if paths[row] in deep], "error" if train else "warning",
            "image-depth", "grey values of more than 8 bits, which are cut at 255",
            "most of the picture is white: save them with 8 bits",
        ),
        (
            turned, "note", "image-turned", "the file is turned by its EXIF orientation",
            "right if boxes were drawn on the upright image",
        ),
        (
            [row for row, f in readable.items() if f.mode == "CMYK"], "warning", "image-cmyk",
            "the file is in CMYK", "colours are converted roughly: save them as RGB",
        ),
        (
            [row for row, f in readable.items() if f.has_alpha], "note", "image-alpha",
            "the file has transparency", "it is dropped, what is behind it shows: save as RGB",
        ),
        (
            [row for row, f in readable.items() if f.mode == "P"], "note", "image-palette",
            "the file has a palette", "it is read as RGB",
        ),
        (
            [row for row, f in readable.items() if f.mode in ("L", "1", "LA")], "note",
            "image-grey", "the file is grey", "it is read as RGB with three equal channels",
        ),
    ]  # fmt: skip
    found = []
    for rows, harm, kind, what, advice in cases:
        found += of_images(
            file, images, rows, harm=harm, kind=kind, what=what, advice=advice,
            details=details if harm != "note" or kind == "image-turned" else None,
        )  # fmt: skip
    return found


_EMPTY = "no bytes"


def _facts(path: str, quick: bool) -> ImageFacts:
    from PIL import Image

    try:
        if not os.path.getsize(path):
            return ImageFacts(problem=_EMPTY)
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            orientation = _exif(image, quick).get(_ORIENTATION)
            alpha = mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            is_doubtful = quick and may_be_cut(path, image)
            if not quick:
                # Decoding a small version of a JPEG reads all of it, in a third of the time.
                image.draft(None, (1, 1))
                image.load()
    except FileNotFoundError:
        return ImageFacts(problem="there is no such file")
    except Exception as error:  # decoders raise whatever they stumble over
        return ImageFacts(problem=" ".join(f"{error}".split()) or type(error).__name__)
    return ImageFacts(
        size=size,
        mode=mode,
        orientation=orientation if isinstance(orientation, int) else None,
        has_alpha=alpha,
        is_doubtful=is_doubtful,
    )


def _exif(image: Any, quick: bool) -> Any:
    if not quick or image.format != "PNG":
        return image.getexif()
    from PIL import Image  # would decode a PNG whole

    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif


def _shape(size: tuple[Any, Any]) -> str:
    return f"{size[0]} x {size[1]}"
