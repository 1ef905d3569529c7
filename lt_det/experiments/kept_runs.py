"""Recognise runs that are finished, so that a repeated command does not train them again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from lt_det.data.annotations.checks import NUM_NAMED
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.engine.startup.world_size import scale_to_world_size
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

#: Config keys that change no result.
_DO_NOT_MATTER = {
    "OUTPUT_DIR",
    "VERSION",
    "MODEL.DEVICE",
    "DATALOADER.NUM_WORKERS",
    "LT_DET.PROGRESS_BAR",
    "VIS_PERIOD",
    "TEST.EVAL_PERIOD",
    "CUDNN_BENCHMARK",  # other kernels, the same sums up to rounding
}
_MISSING = object()


def is_finished(folder: Path) -> bool:
    """Return whether ``folder`` has the results of a training that came to its SOLVER.MAX_ITER.

    Results of an evaluation in between, or of a shorter training before, do not count. Without
    config.yaml nothing is known of the training, and any results count.
    """
    try:
        with open_regular(folder / "results.json", "r", encoding="utf-8") as file:
            record = json.load(file)
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    config = folder / "config.yaml"
    if not config.is_file():
        return True
    cfg = CfgNode(yaml.safe_load(config.read_text(encoding="utf-8")))
    asked = scale_to_world_size(cfg, record.get("processes", 1)).SOLVER.MAX_ITER
    return record.get("iterations") == asked


def check_same_run(command: Sequence[str], folder: Path) -> None:
    """Raise if ``folder`` has results, or a checkpoint to resume from, of another config.

    Args:
        command: of lt-det train, with ``--config-file FILE KEY VALUE ...`` at its end.
        folder: its OUTPUT_DIR. What was run there is in its config.yaml; without one nothing is
            known, and a warning says so.

    Raises:
        ValueError: names the folder, the keys that differ, and what to do.
    """
    done = is_finished(folder)
    if not done and not ("--resume" in command and (folder / "last_checkpoint").is_file()):
        return
    record = folder / "config.yaml"
    if not record.is_file():
        logger.warning("%s has no config.yaml: its run is taken for the one asked for", folder)
        return
    place = list(command).index("--config-file")
    try:
        asked = load_config(command[place + 1], command[place + 2 :])
    except ValueError:
        # Names of data sets are taken by those of the kept run; the keys that differ say why.
        asked = read_config(command[place + 1], command[place + 2 :])
    differing = differing_keys(
        yaml.safe_load(record.read_text(encoding="utf-8")), yaml.safe_load(asked.dump())
    )
    if differing:
        shown = "; ".join(f"{k}: {was!r}, now {now!r}" for k, was, now in differing[:NUM_NAMED])
        raise ValueError(
            f"{folder} holds {'a finished' if done else 'an unfinished'} run of other settings "
            f"than asked for; {len(differing)} keys differ: {shown}. Choose another --output, "
            "or remove that folder to train it anew"
        )


def differing_keys(
    was: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, object, object]]:
    """Return ``(key, value then, value now)`` of all keys that could change a result.

    Paths below the folder that OUTPUT_DIR is in are compared as seen from there. A key that one of
    the two lacks, since the versions differ, counts where the other has not its default.
    """
    before, after = (dict(_leaves(config)) for config in (was, now))
    defaults = dict(_leaves(yaml.safe_load(read_config("").dump())))
    found = []
    for key in sorted({*before, *after} - _DO_NOT_MATTER):
        pair = [values.get(key, defaults.get(key, _MISSING)) for values in (before, after)]
        if _MISSING not in pair and pair[0] != pair[1]:
            found.append((key, *pair))
    return found


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    above = os.path.dirname(os.path.abspath(config["OUTPUT_DIR"]))

    def seen_from_there(value: Any) -> Any:
        if isinstance(value, list):
            return [seen_from_there(item) for item in value]
        if isinstance(value, str) and value.startswith(above + os.sep):
            return os.path.relpath(value, above)
        return value

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", seen_from_there(value)

    return walk(config, "")
