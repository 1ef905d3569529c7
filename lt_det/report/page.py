"""Frame of a html page that holds all it shows: no network, dark and light, prints well."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.shown_text import for_terminal
from lt_det.storage.atomic_write import atomic_file

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1b1b1b; --soft: #f1f3f4; --line: #c9ced1;
  --error: #b3261e; --warning: #8a5a00; --note: #1d5fa8; }
@media (prefers-color-scheme: dark) { :root { --back: #16181a; --text: #e6e6e6; --soft: #24282b;
  --line: #454b50; --error: #ff8a80; --warning: #ffc65c; --note: #8ec5ff; } }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--text);
  margin: 0 auto; padding: 1rem; max-width: 76rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: normal; white-space: nowrap }
td.long { white-space: normal; min-width: 18rem; overflow-wrap: anywhere }
thead th { background: var(--soft) }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.error { color: var(--error) } .warning { color: var(--warning) } .note { color: var(--note) }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto; background: #fff }
figcaption { font-size: .9rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem }
.grid figure { margin: 0 }
@media (max-width: 40rem) { figure { overflow-x: auto }
  section > div:not(.grid) > figure img { max-width: none; width: 38rem }
  tr:has(td.long) td { display: block; border: 0; padding: .1rem .3rem; min-width: 0 }
  tr:has(td.long) { display: block; border-bottom: 1px solid var(--line) }
  thead:has(+ tbody td.long) { display: none } }
@media print { body { max-width: none; font-size: 11px } figure, tr { break-inside: avoid } }
</style></head><body>
<h1>{{ title }}</h1>
{% for section in sections %}<section><h2>{{ section.title }}</h2>
{% for text in section.texts %}<p>{{ text }}</p>
{% endfor %}{% if section.rows %}<div class="scroll"><table><thead><tr>
{% for cell in section.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in section.rows %}<tr>{% for cell in row %}\
<td{% if cell is number %} class="number"{% elif cell in kinds %} class="{{ cell }}"\
{% elif cell|length > 40 %} class="long"{% endif %}>\
{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}{% if section.pictures %}<div class="{{ 'grid' if section.small else '' }}">
{% for picture in section.pictures %}<figure>
<img src="{{ picture.source }}" alt="{{ picture.text }}">
<figcaption>{{ picture.text }}</figcaption></figure>
{% endfor %}</div>{% endif %}</section>
{% endfor %}</body></html>
"""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page, and the words below it."""

    source: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page: words, then a table, then pictures.

    Attributes:
        title: headline.
        texts: paragraphs.
        header: of the table.
        rows: cells; numbers stand right, "error", "warning" and "note" have colours.
        pictures: one below the other, or with ``small`` beside each other.
        small: see ``pictures``.
    """

    title: str
    texts: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    pictures: Sequence[Picture] = field(default=())
    small: bool = False


def save_page(title: str, sections: Sequence[Section], path: str | os.PathLike[str]) -> None:
    """Write a page; all that it is given is text and never html.

    Args:
        title: of the page.
        sections: in their order.
        path: file, written whole or not at all.
    """
    from jinja2 import Environment

    def plain(value: Any) -> Any:
        return for_terminal(value) if isinstance(value, str) else value

    environment = Environment(autoescape=True, finalize=plain)
    text = environment.from_string(_TEMPLATE).render(
        title=title, sections=sections, kinds=("error", "warning", "note")
    )
    with atomic_file(path) as file:
        file.write(text)


def figure_picture(figure: Any, text: str) -> Picture:
    """Return a matplotlib figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Picture(_data(buffer.getvalue(), "png"), text)


def pixels_picture(pixels: Any, text: str) -> Picture:
    """Return ``(h, w, 3)`` uint8 RGB pixels as a picture, a JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=80)
    return Picture(_data(buffer.getvalue(), "jpeg"), text)


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
