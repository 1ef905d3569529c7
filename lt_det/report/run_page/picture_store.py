"""Keep each image of the page once, and draw boxes over it as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.report.image_sheet import shortened, small_image
from lt_det.report.page import pixels_picture
from lt_det.report.svg import element, escaped


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
        for box in (box for box in boxes if box.shows_label and box.label):
            x, y = float(box.box[0]), float(box.box[1])
            values = {
                "x": round(min(max(x, 0) + unit / 2, width * 0.8), 1),
                "y": round(min(max(y - unit, 5 * unit), height - unit), 1),
                "style": f"font-size:{5 * unit:.1f}px;stroke-width:{1.2 * unit:.1f}px",
            }
            parts.append(element("text", values, text=shortened(box.label, 26)))
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
