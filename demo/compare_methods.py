"""Compare methods as second stages and corrections of the same stage 1, over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from demo.build import EmojiScenes
from demo.comparison import Comparison, run_methods
from demo.method_table import mask_table, notes, summary, table
from demo.methods import METHODS, PLAIN, START, Method
from lt_det.evaluation.results import write_json

_STAGE1 = Comparison({"stage1": "stage 1"}, baseline="stage1", start="stage1", tasks=("bbox",))
#: How many methods have their masks evaluated, which takes a pass of the whole detector each.
BEST = 3


def compare_methods(
    repository: Path,
    scenes: EmojiScenes,
    output: Path,
    *,
    seeds: Sequence[int],
    parallel: int = 1,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Train stage 1 and all methods; write methods.json and return it.

    What is finished is kept: the same command goes on with an interrupted one.

    Args:
        repository: folder with tools/ and configs/.
        scenes: the data set.
        output: results go to ``output/seed<seed>``.
        seeds: of stage 1 and of what follows.
        parallel: stage 1 trainings at a time; the methods follow one by one.
        options: KEY VALUE pairs that override the config of stage 1.
    """
    run_methods(
        repository, scenes, output, _STAGE1, seeds=seeds, parallel=parallel, options=options
    )
    # Detectron2's models only where they are needed: the other comparisons are other processes.
    from demo.second_stages import SecondStages

    folders = {seed: output / f"seed{seed}" for seed in seeds}
    stages = [SecondStages(f / "stage1", f / "methods") for f in folders.values()]
    for of_seed in stages:
        of_seed.run(METHODS)
    found = summary({seed: kept_rows(folder / "methods") for seed, folder in folders.items()})
    for of_seed in stages:
        of_seed.run_masks(with_masks(found))
    found = summary({seed: kept_rows(folder / "methods") for seed, folder in folders.items()})
    write_json(output / "methods.json", found)
    return found


def with_masks(found: Mapping[str, Any]) -> list[Method]:
    """Return whose masks are evaluated: the best by box AP, and what they are compared with.

    Args:
        found: a :func:`~demo.method_table.summary`.
    """
    known = {method.name: method for method in METHODS}
    rows = [row for row in found["rows"] if row["method"] in known]
    best = sorted(rows, key=lambda row: -mean(row["AP"]))[:BEST]
    names = {PLAIN, *(row["method"] for row in best)}
    return [Method(START, ""), *(method for method in METHODS if method.name in names)]


def kept_rows(folder: Path) -> dict[str, Any]:
    """Return the rows of a seed that are finished, by the name of the method.

    What is known of their masks is in them, under "masks".
    """
    rows, masks = _rows_in(folder), _rows_in(folder / "masks")
    return {
        name: {**row, "masks": masks[name]} if name in masks else row for name, row in rows.items()
    }


def _rows_in(folder: Path) -> dict[str, Any]:
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {row["method"]: row for row in rows if "method" in row}


def methods_text(found: dict[str, Any]) -> str:
    """Return the table with its notes."""
    masks = mask_table(found)
    return "\n\n".join([table(found), notes(found), *([masks] if masks else [])]) + "\n"
