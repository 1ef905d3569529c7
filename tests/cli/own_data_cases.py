"""Cases of own data from public reports, each tried as a user would: check, training, evaluation.

``own_data_cases.json`` says of each what a user should get and what is said now; the page of the
cases is made of it: ``python -m tests.cli.own_data_cases``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY.parent / "shared" / "cases" / "own_data"
TABLE = Path(__file__).with_suffix(".json")
PAGE = REPOSITORY / "docs/reference/own_data_cases.md"

BASE: dict[str, Any] = {
    "_BASE_": "lt_det://_base_/model_demo.yaml",
    "INPUT": {
        **{"MIN_SIZE_TRAIN": [96], "MIN_SIZE_TEST": 96},
        **{"MAX_SIZE_TRAIN": 128, "MAX_SIZE_TEST": 128},
    },
    "MODEL": {"ROI_HEADS": {"SCORE_THRESH_TEST": 0.0001}},
    "DATALOADER": {"SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "REPEAT_THRESHOLD": 0.5},
    "SOLVER": {
        **{"IMS_PER_BATCH": 2, "BASE_LR": 0.005, "MAX_ITER": 2, "STEPS": [], "WARMUP_ITERS": 0},
        "CHECKPOINT_PERIOD": 10,
    },
    "TEST": {"DETECTIONS_PER_IMAGE": 20},
}


@dataclass
class Outcome:
    """What a training said: the error that ended it, or else its log, and its results."""

    error: str = ""
    log: str = ""
    results: dict[str, Any] = field(default_factory=dict)


def case_file(case: str, name: str) -> Path:
    """Return the json of a case; the good one where it has none."""
    path = ROOT / case / name
    return path if path.exists() else ROOT / name


def case_images(case: str) -> Path:
    """Return the folder of its images."""
    images = ROOT / case / "images"
    if images.is_file():  # holds the path of the good ones
        images = images.parent / images.read_text().strip()
    return images.resolve()


def check(case: str) -> Any:
    """Return the inspection of a case."""
    from lt_det.data.inspection.data_sets import inspect_data_sets

    train, val = (case_file(case, f"{split}.json") for split in ("train", "val"))
    return inspect_data_sets([train], [val], image_roots=[case_images(case)])


def train(
    case: str,
    folder: Path,
    *,
    run: str = "run",
    options: Sequence[str] = (),
    flags: Sequence[str] = (),
    train_json: str = "train.json",
    more: Sequence[str] = (),
) -> Outcome:
    """Return what two iterations and an evaluation of a case say.

    Args:
        case: its folder.
        folder: for config and outputs.
        run: name of the output.
        options: KEY VALUE pairs.
        flags: of ``lt-det train``.
        train_json: of the case.
        more: further training jsons of the case.
    """
    from lt_det.engine.run import run_config
    from lt_det.engine.startup.setup import argument_parser

    name = "case_" + re.sub(r"\W", "_", f"{case}_{Path(train_json).stem}")
    images = str(case_images(case))
    entries = [
        [f"{name}_train", str(case_file(case, train_json)), images],
        *([f"{name}_{n}", str(case_file(case, one)), images] for n, one in enumerate(more)),
        [f"{name}_val", str(case_file(case, "val.json")), images],
    ]
    config = folder / f"{run}.yaml"
    output = folder / run
    content = {
        **BASE,
        "LT_DET": {"DATASETS": entries},
        "DATASETS": {"TRAIN": [e[0] for e in entries[:-1]], "TEST": [entries[-1][0]]},
        "OUTPUT_DIR": str(output),
    }
    config.write_text(yaml.safe_dump(content))
    words = ["--config-file", str(config), *flags, *options]
    outcome = Outcome()
    done = len((output / "log.txt").read_text()) if (output / "log.txt").exists() else 0
    try:
        results = run_config(argument_parser().parse_args(words))
        outcome.results = {k: dict(v) for k, v in results.items()} if results else {}
    except (ValueError, OSError, KeyError, RuntimeError, FloatingPointError) as error:
        outcome.error = f"{error.args[0] if error.args else error}"
    for handler in logging.getLogger("lt_det").handlers:
        handler.flush()
    if (output / "log.txt").exists():
        outcome.log = (output / "log.txt").read_text()[done:]
    return outcome


def perfect(case: str) -> dict[str, float]:
    """Return the results in AP points of the ground truth as predictions, by LVIS's rules."""
    import numpy as np
    import torch
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Boxes, BoxMode, Instances

    from lt_det.data.annotations.class_matching import check_evaluation_json, match_classes
    from lt_det.data.annotations.datasets import class_names_of, register_lvis_format
    from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator

    images = str(case_images(case))
    names = [f"perfect_{case}_{split}" for split in ("train", "val")]
    for name, split in zip(names, ("train.json", "val.json")):
        register_lvis_format(name, case_file(case, split), images)
    match_classes(names[1], class_names_of(names[0]), check_evaluation_json(names[1]))
    evaluator = LongTailLVISEvaluator(names[1], tasks=["bbox"], distributed=False)
    evaluator.reset()
    for record in DatasetCatalog.get(names[1]):
        objects = [a for a in record["annotations"] if not a.get("iscrowd")]
        boxes = [
            BoxMode.convert(a["bbox"], BoxMode(a["bbox_mode"]), BoxMode.XYXY_ABS) for a in objects
        ]
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32))
        found.scores = torch.linspace(0.9, 0.8, len(objects))
        found.pred_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
        evaluator.process([record], [{"instances": found}])
    return dict((evaluator.evaluate() or {})["bbox"])


def rows() -> list[dict[str, Any]]:
    """Return the table of the cases."""
    return list(json.loads(TABLE.read_text(encoding="utf-8")))


OUTCOMES = {
    "right": "works, and gives the right numbers",
    "refused": "ends before or, where only the training can know, in it with a clear message",
    "warned": "works, and says what is lost or misleading",
    "wrong": "is still wrong",
}


def page_text() -> str:
    """Return the page of the cases."""
    table = rows()
    counts = [
        f"| {outcome} | {sum(row['outcome'] == outcome for row in table)} | {meaning} |"
        for outcome, meaning in OUTCOMES.items()
    ]
    lines = []
    for row in table:
        said = []
        if row["check"]:
            said.append(f"`check-data`: {_cell(row['check'])}")
        if row["training"]:
            said.append(f"`train`: {_cell(row['training'])}")
        if row.get("perfect"):
            said.append("perfect predictions have AP 100")
        if row.get("then"):
            key, value = row["then"]
            said.append(f"trains with `{key} {value}`")
        now = "; ".join(said) or "trains and evaluates"
        case = row["case"].partition("-")
        lines.append(
            f"| {case[0]} {case[2].replace('-', ' ')} | {_cell(row['should'])} | "
            f"{_cell(row['before'])} | {row['outcome']} | {now} |"
        )
    return "\n".join(
        [
            "# Cases of own data",
            "",
            f"{len(table)} inputs made from situations that people report in public, what a user "
            "should get, and what is said now.",
            "`tests/cli/test_own_data_cases.py` tries each: check, a training of two iterations, "
            "an evaluation. Where the inputs",
            'are not there it is skipped. "Before" is what a trial of the version before '
            "`check-data` found, where it was kept.",
            "",
            "| outcome | cases | means |",
            "|---|---|---|",
            *counts,
            "",
            "| case | a user should get | before | outcome | now, in part |",
            "|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
