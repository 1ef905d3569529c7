"""Frame of a html page that holds all it shows: no network, dark and light, prints well."""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.report.page_style import SCRIPT, SCRIPT_HASH, STYLE
from lt_det.shown_text import for_terminal
from lt_det.storage.atomic_write import atomic_file

# No space around the cells: a table of 1,203 classes has many.
_TABLE = """{% macro cell_of(cell) %}\
{% if cell is cell_type %}<td{% if cell.kind %} class="{{ cell.kind }}"{% endif %}\
{% if cell.sort is not none %} data-value="{{ cell.sort }}"{% endif %}>\
{% if cell.link %}<a href="#{{ cell.link }}">{{ cell.text }}</a>{% else %}\
{{ cell.text|folded if "long" in cell.kind else cell.text }}{% endif %}</td>\
{% else %}<td{% if cell is number %} class="number"{% elif cell in kinds %} class="{{ cell }}"\
{% elif cell|length > 40 %} class="long"{% endif %}>{{ cell }}</td>{% endif %}{% endmacro %}
{% macro table_of(section) %}{% if section.search %}
<div class="find" data-table="{{ section.anchor }}-table">
<label>Search <input type="search" placeholder="{{ section.search }}"></label>
{% if section.groups %}<label>Group <select><option value="">all</option>\
{% for key, name in section.groups %}<option value="{{ key }}">{{ name }}</option>{% endfor %}\
</select></label>{% endif %}
<output aria-live="polite">{{ section.rows|length }} of {{ section.rows|length }}</output></div>
{% endif %}<div class="scroll{{ ' tall' if section.rows|length > 25 and section.sortable }}\
{{ ' words' if section.header|length == 2 or section.rows and section.rows[0][0] in kinds }}"\
{% if section.sortable %} tabindex="0" role="region" aria-label="{{ section.title }}"{% endif %}>
<table{% if section.anchor %} id="{{ section.anchor }}-table"{% endif %}><thead><tr>
{% for head in section.header %}{% set right = head is head_type %}\
<th{% if right %} class="number"{% endif %} scope="col">\
{% if section.sortable %}<button type="button">{{ head }}</button>{% else %}{{ head }}{% endif %}\
</th>{% endfor %}</tr></thead><tbody>
{% for row in section.rows %}<tr{% if section.row_groups %} data-group="\
{{ section.row_groups[loop.index0] }}"{% endif %}{% if loop.index0 in section.strong %} \
class="strong"{% endif %}>{% for cell in row %}{{ cell_of(cell) }}{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endmacro %}"""

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'{% if scripted %}; script-src '{{ script_hash }}'{% endif %}">
<title>{{ title }}</title>
<style>{{ style }}</style></head><body>
<h1>{{ title }}</h1>
{% if lead %}<div class="lead">{% for text in lead %}{% if text is html %}
{{ text }}{% else %}
<p>{{ text }}</p>{% endif %}{% endfor %}</div>
{% endif %}{% if sections|selectattr("anchor")|list %}<nav aria-label="Parts of the page">
{% for section in sections if section.anchor %}<a href="#{{ section.anchor }}">\
{{ section.short or section.title }}</a>
{% endfor %}</nav>{% endif %}
<main>
{% for section in sections %}<section>\
<h2{% if section.anchor %} id="{{ section.anchor }}"{% endif %}>{{ section.title }}</h2>
{% for text in section.texts %}<p>{{ text }}</p>
{% endfor %}{% for text in section.missing %}<p class="missing">{{ text }}</p>
{% endfor %}{% if section.charts %}<div class="charts">
{% for chart in section.charts %}{{ chart }}
{% endfor %}</div>
{% endif %}{% if section.rows %}{{ table_of(section) }}{% endif %}\
{% for part in section.parts %}{% if part.title %}<h3>{{ part.title }}</h3>{% endif %}
{% for text in part.texts %}<p>{{ text }}</p>
{% endfor %}{{ table_of(part) }}{% endfor %}\
{% for block in section.blocks %}{{ block }}
{% endfor %}{% if section.pictures %}<div class="{{ 'grid' if section.small else '' }}">
{% for picture in section.pictures %}<figure>
<img src="{{ picture.source }}" alt="{{ picture.text }}">
<figcaption>{{ picture.text }}</figcaption></figure>
{% endfor %}</div>{% endif %}</section>
{% endfor %}</main>{% if scripted %}<script>{{ script }}</script>{% endif %}</body></html>
"""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page, and the words below it."""

    source: str
    text: str


class NumberHead(str):
    """Headline of a column of numbers: stands right, and sorts by value."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text.

    Attributes:
        text: shown.
        sort: value that its column is sorted by; None takes the text, "" is always last.
        kind: classes of the style sheet, "number" to stand right, "up", "down", "long".
        link: anchor on the page that it leads to.
    """

    text: str
    sort: float | str | None = None
    kind: str = ""
    link: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page: words, charts, a table, then pictures.

    Attributes:
        title: headline.
        texts: paragraphs.
        header: of the table.
        rows: cells; numbers stand right, "error", "warning" and "note" have colours.
        pictures: one below the other, or with ``small`` beside each other.
        small: see ``pictures``.
        anchor: name for links; sections that have one are in the menu of the page.
        short: title in the menu.
        missing: what is not shown, and what to run for it.
        charts: html of :mod:`lt_det.report.svg`, beside each other where there is room.
        sortable: whether a click on a head sorts.
        search: what the search field says; "" for none.
        groups: (key, name) of the groups to choose from beside the search field.
        row_groups: key of each row.
        strong: rows that stand out.
        parts: tables with a smaller headline.
        blocks: html that its maker has escaped.
    """

    title: str
    texts: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    pictures: Sequence[Picture] = field(default=())
    small: bool = False
    anchor: str = ""
    short: str = ""
    missing: Sequence[str] = ()
    charts: Sequence[Any] = ()
    sortable: bool = False
    search: str = ""
    groups: Sequence[tuple[str, str]] = ()
    row_groups: Sequence[str] = ()
    strong: Sequence[int] = ()
    parts: Sequence[Section] = ()
    blocks: Sequence[Any] = ()


def number_cell(value: float | None, digits: int = 1, *, sign: bool = False) -> Cell:
    """Return a cell of a number, "–" where it is None or not finite.

    Args:
        value: number.
        digits: behind the point.
        sign: show + too, and colour by it.
    """
    if value is None or not math.isfinite(value):
        return Cell("–", "", "number")
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    is_zero = not re.search("[1-9]", text)
    text = text.lstrip("+-") if is_zero else text
    colour = "" if not sign or is_zero else " up" if value > 0 else " down"
    return Cell(text.replace("-", "−"), f"{value:.6g}", f"number{colour}")


def save_page(
    title: str,
    sections: Sequence[Section],
    path: str | os.PathLike[str],
    *,
    lead: Sequence[Any] = (),
) -> None:
    """Write a page; all that it is given is text and never html, but charts and blocks.

    Args:
        title: of the page.
        sections: in their order.
        path: file, written whole or not at all.
        lead: sentences below the title, or html that its maker has escaped.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return for_terminal(value) if type(value) in (str, NumberHead) else value

    environment = Environment(autoescape=True, finalize=plain)
    environment.filters["folded"] = _folded
    environment.tests["cell_type"] = lambda value: isinstance(value, Cell)
    environment.tests["html"] = lambda value: hasattr(value, "__html__")
    environment.tests["head_type"] = lambda value: isinstance(value, NumberHead)
    every = [part for section in sections for part in (section, *section.parts)]
    text = environment.from_string(_TABLE + _TEMPLATE).render(
        title=title,
        lead=lead,
        sections=sections,
        kinds=("error", "warning", "note"),
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        script_hash=SCRIPT_HASH,
        scripted=any(part.sortable or part.search for part in every),
    )
    with atomic_file(path) as file:
        file.write(text.strip() + "\n")


def _folded(text: str) -> Any:
    """Return text as html that breaks its lines behind slashes first."""
    from markupsafe import Markup

    return Markup("/<wbr>").join(for_terminal(text).split("/"))


def figure_picture(figure: Any, text: str) -> Picture:
    """Return a matplotlib figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Picture(_data(buffer.getvalue(), "png"), text)


def pixels_picture(pixels: Any, text: str, *, quality: int = 80) -> Picture:
    """Return ``(h, w, 3)`` uint8 RGB pixels as a picture, a JPEG.

    Args:
        pixels: of the picture.
        text: below it.
        quality: of the JPEG, to 95.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return Picture(_data(buffer.getvalue(), "jpeg"), text)


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
