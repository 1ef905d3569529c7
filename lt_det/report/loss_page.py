"""Write the page of all losses from the loss table and the docstrings."""

from __future__ import annotations

import inspect
import re

from tabulate import tabulate

from lt_det.losses import LOSSES


def loss_page(image_folder: str) -> str:
    """Return a line for each loss, then its picture, in Markdown.

    Args:
        image_folder: where ``overview.png`` and ``<key>.png`` are, as the page should link them.
    """
    pictures = [f"### {key}\n\n![{key}]({image_folder}/{key}.png)" for key in LOSSES]
    overview = (
        f"### All, on a positive of the rare class\n\n![all losses]({image_folder}/overview.png)"
    )
    return "\n\n".join([loss_table(), overview, *pictures, ""])


def loss_table() -> str:
    """Return the loss table in Markdown: key, kind, formula, parameters, source, file.

    The last links to the reference of the module, ``api/losses.md`` beside the page.
    """
    rows = []
    for key, spec in LOSSES.items():
        parameters = ", ".join(f"{k} {v!r}" for k, v in spec.hyperparameters().items())
        module = spec.function.__module__
        link = f"[{module.rpartition('.')[2]}.py](api/losses.md#{module})"
        rows.append(
            [f"`{key}`", spec.kind, summary(key), parameters or "–", _links(spec.source), link]
        )
    header = ["key", "kind", "loss", "parameters", "source", "file"]
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def summary(key: str) -> str:
    """Return what the loss returns: the first sentence of its docstring, as Markdown."""
    first = (inspect.getdoc(LOSSES[key].function) or "").split("\n\n")[0]
    text = " ".join(first.split()).removeprefix("Return ").replace(", in nats", "")
    return text.replace("``", "`").replace("|", "\\|").rstrip(".")


def _links(source: str) -> str:
    source = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"OpenReview (\w+)", r"[\1](https://openreview.net/forum?id=\1)", source)
