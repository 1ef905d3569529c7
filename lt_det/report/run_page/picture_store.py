"""Keep each image of the page once, and draw boxes over it as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.report.image_sheet import shortened, small_image
from lt_det.report.page import pixels_picture
from lt_det.report.svg import element, escaped

# Hundredths of the longer side: height of words in an image, and room of a letter.
_FONT, _LETTER = 5.0, 3.0


@dataclass(frozen=True)
class DrawnBox:
    """A box over an image.

    Attributes:
        box: XYWH in pixels of the file.
        label: words beside it.
        kind: "truth", "right" or "wrong"; "weak" besides for a dashed line, "main" for a bold one.
        shows_label: whether the words stand in the image; they are there on a touch anyway.
    """

    box: Sequence[float]
    label: str
    kind: str
    shows_label: bool = True


@dataclass
class PictureStore:
    """Images inside the page, each once.

    Attributes:
        budget: bytes that they may take.
        used: bytes that they take.
    """

    budget: int
    used: int = 0
    _known: dict[str, tuple[str, tuple[int, int]] | None] = field(default_factory=dict)
    _html: list[str] = field(default_factory=list)

    def has(self, path: str) -> bool:
        """Return whether an image is in the page already."""
        return self._known.get(path) is not None

    def add(self, path: str, *, longest: int, quality: int = 72) -> bool:
        """Put an image into the page; return False if it cannot be read or the budget is spent.

        Args:
            path: image file.
            longest: pixels of its longer side on the page.
            quality: of the JPEG.
        """
        if path in self._known:
            return self._known[path] is not None
        if self.used >= self.budget:
            return False
        try:
            pixels, size = small_image(path, longest=longest)
        except (OSError, ValueError):
            self._known[path] = None
            return False
        source = pixels_picture(pixels, "", quality=quality).source
        if self.used + len(source) > self.budget:
            self.used = self.budget
            return False
        name = f"picture-{len(self._html)}"
        values = {
            "id": name,
            "width": size[0],
            "height": size[1],
            "href": source,
            "preserveAspectRatio": "none",
        }
        self._html.append(element("image", values))
        self._known[path] = (name, size)
        self.used += len(source)
        return True

    def scene(self, path: str, boxes: Sequence[DrawnBox], *, about: str, caption: str = "") -> str:
        """Return an image with boxes as escaped html.

        Args:
            path: image that was added.
            boxes: drawn in this order.
            about: for readers who hear the page.
            caption: below it.
        """
        known = self._known[path]
        assert known is not None
        name, (width, height) = known
        unit = max(width, height) / 100
        parts = [element("use", {"href": f"#{name}"})]
        for box in boxes:
            x, y, w, h = (round(float(v), 1) for v in box.box)
            place: Mapping[str, Any] = {"x": x, "y": y, "width": w, "height": h}
            parts.append(
                element("rect", {"class": "main-halo" if "main" in box.kind else "halo", **place})
            )
            parts.append(element("rect", {"class": box.kind, **place}, title=box.label))
        style = f"font-size:{_FONT * unit:.1f}px;stroke-width:{1.2 * unit:.1f}px"
        taken: list[tuple[float, float, float]] = []
        for box in (box for box in boxes if box.shows_label and box.label):
            label = shortened(box.label, 26)
            start = _place(box.box, len(label), (width, height), unit, taken)
            if start is not None:
                kind = box.kind.split()[0]
                values = {"class": kind, "x": start[0], "y": start[1], "style": style}
                parts.append(element("text", values, text=label))
        below = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
        return (
            f"<figure><svg class='scene' role='img' aria-label='{escaped(about)}' "
            f"viewBox='0 0 {width} {height}'>{''.join(parts)}</svg>{below}</figure>"
        )

    def html(self) -> Any:
        """Return the images, to stand once in the page."""
        from markupsafe import Markup

        return Markup(  # noqa: S704 - each part is escaped
            f"<svg class='store' aria-hidden='true'><defs>{''.join(self._html)}</defs></svg>"
        )


def _place(
    box: Sequence[float],
    letters: int,
    size: tuple[int, int],
    unit: float,
    taken: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    """Return where the words of a box begin, beside it and inside the image; None without room.

    Args:
        box: XYWH.
        letters: of the words.
        size: width and height of the image.
        unit: a hundredth of the longer side.
        taken: left and right end and foot of the words that are there; the new ones are added.
    """
    x, y, _, h = (float(v) for v in box)
    long, line = letters * _LETTER * unit, (_FONT + 0.5) * unit
    left = max(min(x + unit / 2, size[0] - long - unit / 2), unit / 2)
    for foot in (y - unit, y + line, y + h + line, y - unit - line, y + 2 * line, y + h - unit):
        foot = round(min(max(foot, line), size[1] - unit), 1)
        if all(
            left > end or left + long < begin or abs(foot - f) >= line * 0.99
            for begin, end, f in taken
        ):
            taken.append((left, left + long, foot))
            return round(left, 1), foot
    return None
