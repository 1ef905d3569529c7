"""Draw charts as svg that stands in a page: colours are those of the page, a point says its name.

Classes of the style sheet give the colour: "s0" to "s7" for methods, "r", "c", "f" for groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lt_det.shown_text import for_terminal

# Pixels around the axes, on the left the least, and of a digit and the words of the y axis.
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 8, 40
_DIGIT, _WORDS = 8, 24
#: Shapes of points, so that methods are told apart without colour.
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
#: Methods with a colour of their own.
NUM_COLOURS = 8


@dataclass(frozen=True)
class Axis:
    """Range and words of an axis.

    Attributes:
        low: lowest value.
        high: highest value.
        label: what it is, with its unit.
        log: logarithmic; ``low`` is above 0 then.
    """

    low: float
    high: float
    label: str = ""
    log: bool = False

    @classmethod
    def around(
        cls, values: Iterable[float], label: str, *, log: bool = False, zero: bool = False
    ) -> Axis:
        """Return an axis that holds all finite values, with ``zero`` also 0."""
        finite = [float(v) for v in values if math.isfinite(v) and (not log or v > 0)]
        finite += [0.0] if zero and not log else []
        low, high = (min(finite), max(finite)) if finite else (1.0, 10.0) if log else (0.0, 1.0)
        if log:
            return cls(low / 1.15, max(high * 1.15, low * 1.5), label, log)
        room = 0.05 * (high - low) or 0.5
        return cls(low if zero and low == 0 else low - room, high + room, label)

    def share(self, value: float) -> float:
        """Return the place of a value, 0 at the low and 1 at the high end."""
        if self.log:
            return math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values within the range."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5)):
                found = [s * 10.0**p for p in powers for s in steps]
                found = [v for v in found if self.low <= v <= self.high]
                if len(found) >= 3:
                    break
            return found[:: -(-len(found) // most) or 1]
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(s * unit for s in (1, 2, 2.5, 5, 10) if s * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Chart:
    """Axes, and what is drawn between them, first things lowest."""

    def __init__(self, x: Axis, y: Axis, *, name: str, width: int = 460, height: int = 290) -> None:
        """Draw the axes.

        Args:
            x: from left to right.
            y: from bottom to top.
            name: what the chart shows, for readers who hear the page.
            width: units; the page scales the chart to its place.
            height: units.
        """
        self.x_axis, self.y_axis, self.name = x, y, name
        self.width, self.height = width, height
        self._parts: list[str] = []
        right, bottom = width - _RIGHT, height - _BOTTOM
        ticks = [tick_text(value) for value in y.ticks()]
        self.left = left = max(_LEFT, _WORDS + _DIGIT * max(map(len, ticks), default=0))
        self._add("path", {"class": "axis", "d": f"M{left} {_TOP}V{bottom}H{right}"})
        for value in x.ticks():
            place = self.x(value)
            self._add("path", {"class": "axis", "d": f"M{place} {bottom}v4"})
            text = tick_text(value)
            half = _DIGIT * len(text) / 2
            self.text(min(place, width - half), bottom + 17, text, anchor="middle")
        for value in y.ticks():
            place = self.y(value)
            self._add(
                "path", {"class": "axis", "d": f"M{left} {place}h{right - left}", "opacity": ".5"}
            )
            self.text(left - 6, place + 4, tick_text(value), anchor="end")
        self.text((left + right) / 2, height - 6, x.label, anchor="middle")
        middle = (_TOP + bottom) / 2
        self._add(
            "text",
            {
                "x": 0,
                "y": 0,
                "text-anchor": "middle",
                "transform": f"translate(12 {middle:.0f}) rotate(-90)",
            },
            y.label,
        )

    def x(self, value: float) -> float:
        """Return the place of a value of the x axis, in units, kept within the chart."""
        share = min(max(self.x_axis.share(value), -0.02), 1.02)
        return round(self.left + share * (self.width - self.left - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the place of a value of the y axis."""
        share = min(max(self.y_axis.share(value), -0.02), 1.02)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 1)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> None:
        """Write words at a place in units."""
        values = {"x": round(x, 1), "y": round(y, 1), "text-anchor": anchor, "class": kind or None}
        self._add("text", values, text)

    def point(
        self,
        x: float,
        y: float,
        colour: str,
        *,
        title: str = "",
        shape: str = "circle",
        size: float = 4,
        faint: bool = False,
    ) -> None:
        """Draw a point; points that are not finite are left out."""
        if math.isfinite(x) and math.isfinite(y):
            kind = f"dot {colour}{' faint' if faint else ''}"
            self._parts.append(marker(self.x(x), self.y(y), shape, size, kind, title))

    def line(
        self,
        xs: Iterable[float],
        ys: Iterable[float],
        colour: str,
        *,
        title: str = "",
        kind: str = "path",
        dashes: str | None = None,
    ) -> None:
        """Draw a line through points, with gaps where they are not finite."""
        pieces, pen = [], "M"
        for x, y in zip(xs, ys):
            if not (math.isfinite(x) and math.isfinite(y)):
                pen = "M"
                continue
            pieces.append(f"{pen}{self.x(x)} {self.y(y)}")
            pen = "L"
        if pieces:
            values = {"class": f"{kind} {colour}", "d": "".join(pieces), "stroke-dasharray": dashes}
            self._add("path", values, title=title)

    def band(
        self, xs: Iterable[float], low: Iterable[float], high: Iterable[float], colour: str
    ) -> None:
        """Fill between two lines."""
        fine = [p for p in zip(xs, low, high) if all(math.isfinite(v) for v in p)]
        if len(fine) > 1:
            there = [f"{self.x(x)} {self.y(h)}" for x, _, h in fine]
            back = [f"{self.x(x)} {self.y(b)}" for x, b, _ in reversed(fine)]
            self._add("path", {"class": f"band {colour}", "d": f"M{'L'.join(there + back)}Z"})

    def across(self, y: float) -> None:
        """Draw a dotted line at a value of the y axis."""
        self._add(
            "path", {"class": "guide", "d": f"M{self.left} {self.y(y)}H{self.width - _RIGHT}"}
        )

    def upright(self, x: float, text: str = "", after: str = "") -> None:
        """Draw a dotted line at a value of the x axis, words on its left and, with room, right."""
        if self.x_axis.low < x < self.x_axis.high:
            self._add(
                "path", {"class": "guide", "d": f"M{self.x(x)} {_TOP}V{self.height - _BOTTOM}"}
            )
            self.text(self.x(x) - 4, _TOP + 9, text, anchor="end")
            if self.x(x) + 4 + _DIGIT * len(after) < self.width:
                self.text(self.x(x) + 4, _TOP + 9, after)

    def _add(self, tag: str, values: dict[str, Any], text: str = "", *, title: str = "") -> None:
        self._parts.append(element(tag, values, text=text, title=title))

    def html(self, *, caption: str = "", legend: Sequence[tuple[str, str, str]] = ()) -> Any:
        """Return the chart as html.

        Args:
            caption: below the chart.
            legend: (colour, shape, words) above it.
        """
        return figure(
            "".join(self._parts), self.width, self.height, self.name, caption=caption, legend=legend
        )


def figure(
    content: str,
    width: float,
    height: float,
    name: str,
    *,
    caption: str = "",
    legend: Sequence[tuple[str, str, str]] = (),
) -> Any:
    """Return a figure with escaped svg inside, a caption and a legend."""
    from markupsafe import Markup

    keys = "".join(
        f"<span><svg viewBox='0 0 12 12' aria-hidden='true'>"
        f"{marker(6, 6, shape, 4.5, f'dot {colour}', '')}</svg>{escaped(words)}</span>"
        for colour, shape, words in legend
    )
    head = f"<p class='legend chart-legend'>{keys}</p>" if keys else ""
    below = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    return Markup(  # noqa: S704 - each text was escaped
        f"<figure>{head}<svg class='chart' role='img' aria-label='{escaped(name)}' "
        f"viewBox='0 0 {width:g} {height:g}'>{content}</svg>{below}</figure>"
    )


def marker(x: float, y: float, shape: str, size: float, kind: str, title: str) -> str:
    """Return the svg of a point."""
    if shape == "circle":
        return element("circle", {"class": kind, "cx": x, "cy": y, "r": size}, title=title)
    s, d = size, 1.3 * size
    paths = {
        "square": f"M{x - s} {y - s}h{2 * s}v{2 * s}h{-2 * s}z",
        "triangle": f"M{x} {y - 1.2 * s}l{1.2 * s} {2.1 * s}h{-2.4 * s}z",
        "diamond": f"M{x} {y - d}l{d} {d}l{-d} {d}l{-d} {-d}z",
        "cross": f"M{x - s} {y - s / 3}h{2 * s}v{2 * s / 3}h{-2 * s}z"
        f"M{x - s / 3} {y - s}h{2 * s / 3}v{2 * s}h{-2 * s / 3}z",
    }
    return element("path", {"class": kind, "d": paths[shape]}, title=title)


def element(tag: str, values: dict[str, Any], *, text: str = "", title: str = "") -> str:
    """Return an element; its values, text and title are escaped, None values left out."""
    words = "".join(f" {k}='{escaped(v)}'" for k, v in values.items() if v is not None)
    inside = (f"<title>{escaped(title)}</title>" if title else "") + escaped(text)
    return f"<{tag}{words}>{inside}</{tag}>" if inside else f"<{tag}{words}/>"


def escaped(value: Any) -> str:
    """Return a value as text that stands in html as it is."""
    from markupsafe import escape

    if isinstance(value, float):
        return f"{value:.4g}"
    return str(escape(for_terminal(str(value))))


def tick_text(value: float) -> str:
    """Return a value of an axis as short text."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def colour_of(place: int) -> str:
    """Return the colour of a method by its place."""
    return f"s{place % NUM_COLOURS}"


def shape_of(place: int) -> str:
    """Return the shape of a method's points by its place."""
    return SHAPES[place % len(SHAPES)]
