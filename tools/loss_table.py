#!/usr/bin/env python
"""Train every cell of the table loss x head x config x stage for two steps, and write its page.

python tools/loss_table.py               all cells (some minutes), docs/reference/table.md
python tools/loss_table.py --missing     those of losses that are not recorded yet
python tools/loss_table.py --only-page   the page of what was recorded
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from lt_det.losses import LOSSES
from lt_det.report.loss_table import Cells, loss_table
from lt_det.storage.atomic_write import atomic_file

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "results" / "loss_cells.json"
PAGE = ROOT / "docs" / "reference" / "table.md"
MARK = "<!-- From here on written by: python tools/loss_table.py -->\n"


def cells_of(losses: Iterable[str]) -> Cells:
    """Return the outcome of every cell of the losses."""
    sys.path.insert(0, str(ROOT))  # the tiny nets are those of the tests
    from tests.engine.loss_cells import HEADS, STAGES, WAYS, outcome

    logging.disable(logging.WARNING)
    return {
        loss: {
            head: {w: {s: outcome(loss, head, w, s) for s in STAGES} for w in WAYS}
            for head in HEADS
        }
        for loss in tqdm(list(losses), unit="loss", disable=None)
    }


def main(arguments: list[str] | None = None) -> None:
    """Train, record, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only-page", action="store_true", help="train nothing")
    parser.add_argument("--missing", action="store_true", help="train what is not recorded")
    args = parser.parse_args(arguments)
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if not args.only_page:
        found = cells_of(n for n in LOSSES if not (args.missing and n in recorded))
        recorded = {name: {**recorded, **found}[name] for name in LOSSES}
        with atomic_file(RECORD) as file:
            json.dump(recorded, file, indent=0)
            file.write("\n")
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0] if PAGE.is_file() else ""
    with atomic_file(PAGE) as file:
        file.write(f"{head}{MARK}\n{loss_table(recorded)}")
    print(PAGE)


if __name__ == "__main__":
    main()
