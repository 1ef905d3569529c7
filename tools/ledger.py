#!/usr/bin/env python
"""Write docs/background/ledger.md: every result of both papers beside ours, from ledger.yaml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from lt_det.storage.atomic_write import atomic_file

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "background"
STATUSES = {
    "measured": "measured here",
    "reduced": "reduced recipe, here",
    "paper": "paper only",
    "hardware": "cannot run here",
    "none": "nothing to measure",
}
HEAD = """# Ledger: both papers, table by table

Every table and figure of the two papers, its config, what was done of it, and our number with its
spread (mean ± standard deviation over seeds). "Reduced recipe" is a smaller network, shorter
training or other data: the order of methods may be compared, the numbers may not. "Paper only"
could run on a machine like ours and was not run. "Cannot run here" needs GPUs or data sets that
were not at hand. The page is written by `tools/ledger.py` from `ledger.yaml` beside it: a
new result goes there.
"""


def page(ledger: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        ledger: paper -> table -> config, ours and rows, as ledger.yaml has it.

    Raises:
        ValueError: if a row has an unknown status, or a number of ours where nothing was run.
    """
    numbers: Counter[str] = Counter()
    parts = []
    for paper, tables in ledger.items():
        parts.append(f"## {paper}")
        for where, table in tables.items():
            rows = []
            for name, row in table["rows"].items():
                status, here = row["status"], row.get("here", "")
                if status not in STATUSES:
                    raise ValueError(f"{where}, {name}: status must be one of {[*STATUSES]}")
                if bool(here) != (status in ("measured", "reduced")):
                    raise ValueError(f"{where}, {name}: status {status!r} with here {here!r}")
                numbers[status] += 1
                rows.append([name, row["paper"], STATUSES[status], here])
            config = f"Config: `{table['config']}`. " if table["config"] else ""
            head = ["", "the paper's", "status", "here"]
            body = tabulate(rows, head, tablefmt="github", disable_numparse=True)
            parts += [f"### {where}", f"{config}Here: {table['ours']}.", body]
    counts = ", ".join(f"{numbers[s]} {text}" for s, text in STATUSES.items() if numbers[s])
    return "\n\n".join([HEAD + f"\nRows: {counts}.", *parts]) + "\n"


def main() -> None:
    """Write the page."""
    ledger = yaml.safe_load((FOLDER / "ledger.yaml").read_text(encoding="utf-8"))
    with atomic_file(FOLDER / "ledger.md") as file:
        file.write(page(ledger))


if __name__ == "__main__":
    main()
