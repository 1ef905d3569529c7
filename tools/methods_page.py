#!/usr/bin/env python
"""Write the tables of docs/background/methods.md from benchmarks/results/methods.json.

python tools/methods_page.py                          the page
python tools/methods_page.py --from FOLDER --seeds 0  also: take the rows of a demo's output first
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the demo is beside this folder

from demo.compare_methods import kept_rows, methods_text  # noqa: E402
from demo.method_table import summary  # noqa: E402
from lt_det.evaluation.results import write_json  # noqa: E402
from lt_det.storage.atomic_write import atomic_file  # noqa: E402

RECORD = ROOT / "benchmarks" / "results" / "methods.json"
PAGE = ROOT / "docs" / "background" / "methods.md"
BEGIN = "<!-- Written by python tools/methods_page.py, up to the next such line -->\n"
END = "<!-- End -->\n"


def page(before: str, record: dict) -> str:
    """Return the page with the table of a record in the place of the one it has."""
    head, _, rest = before.partition(BEGIN)
    return f"{head}{BEGIN}\n{methods_text(record)}\n{END}{rest.partition(END)[2]}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, help="folder with seed<N>/methods")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Gather and write."""
    args = parse_arguments(arguments)
    if args.source:
        seeds = {seed: kept_rows(args.source / f"seed{seed}" / "methods") for seed in args.seeds}
        write_json(RECORD, summary(seeds))
    text = page(PAGE.read_text(encoding="utf-8"), json.loads(RECORD.read_text(encoding="utf-8")))
    with atomic_file(PAGE) as file:
        file.write(text)


if __name__ == "__main__":
    main()
