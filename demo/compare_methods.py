"""Compare methods as second stages and corrections of the same stage 1, over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.build import EmojiScenes
from demo.comparison import Comparison, run_methods
from demo.method_table import notes, summary, table
from demo.methods import METHODS
from lt_det.evaluation.results import write_json

_STAGE1 = Comparison({"stage1": "stage 1"}, baseline="stage1", start="stage1", tasks=("bbox",))


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

    for seed in seeds:
        folder = output / f"seed{seed}"
        SecondStages(folder / "stage1", folder / "methods").run(METHODS)
    found = summary({seed: kept_rows(output / f"seed{seed}" / "methods") for seed in seeds})
    write_json(output / "methods.json", found)
    return found


def kept_rows(folder: Path) -> dict[str, Any]:
    """Return the rows of a seed that are finished, by the name of the method."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {row["method"]: row for row in rows if "method" in row}


def methods_text(found: dict[str, Any]) -> str:
    """Return the table with its notes."""
    return f"{table(found)}\n\n{notes(found)}\n"
