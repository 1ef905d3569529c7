"""Table of what trains where, out of what every loss, head, config and stage came to."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

#: Outcome of what trains; any other is the line of an error.
TRAINS = "trains"
#: What stands for a stage that trains.
SIGNS = {"stage 1": "1", "second stage": "2", "meta learner": "M"}

#: loss -> head -> config -> stage -> outcome.
Cells = Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]


def loss_table(cells: Cells) -> str:
    """Return the table as markdown, and below it the errors by their letter.

    Args:
        cells: outcomes; all losses with the same heads, all heads with the same configs.
    """
    letters: dict[str, str] = {}
    rows = []
    for loss, of_heads in cells.items():
        row = [f"`{loss}`"]
        for configs in of_heads.values():
            parts = []
            for stages in configs.values():
                done = "".join(SIGNS[s] for s, found in stages.items() if found == TRAINS)
                errors = [found for found in stages.values() if found != TRAINS]
                # One letter for all losses: the name of the loss is all that differs.
                general = dict.fromkeys(text.replace(f"{loss!r}", "'...'") for text in errors)
                marks = [letters.setdefault(text, chr(97 + len(letters))) for text in general]
                parts.append(" ".join([*([done] if done else []), *marks]))
            row.append(" / ".join(parts))
        rows.append(row)
    names = list(next(iter(cells.values())))
    body = tabulate(rows, ["loss", *names], tablefmt="github", disable_numparse=True)
    return f"{body}\n\n" + "\n".join(f"- {k}: {text}" for text, k in letters.items()) + "\n"
