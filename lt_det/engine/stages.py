"""Train several stages in a row, each from the checkpoint of the one before."""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.utils import comm

from lt_det.engine.best_checkpoint import BEST
from lt_det.engine.startup.output_folder import check_output_folder
from lt_det.engine.startup.setup import load_config
from lt_det.report.stages import stages_report

logger = logging.getLogger(__name__)


def run_stages(args: argparse.Namespace, run: Callable[[argparse.Namespace], Any]) -> Any:
    """Call ``run`` for each config of ``args.stages``; return what the last call returns.

    The checkpoint is ``model_final.pth``; of a stage with LT_DET.BEST_CHECKPOINT the best one.

    The log of the last stage ends with a table of the results of all, and where their files are.

    A stage writes to the OUTPUT_DIR of its config; with OUTPUT_DIR on the command line to
    OUTPUT_DIR/NAME, NAME its config's file name. With ``args.resume`` a stage with
    ``model_final.pth`` is skipped, and the first unfinished one is resumed.

    Raises:
        ValueError: if two stages would write to the same folder, the first word is no yaml file,
            or ``args.eval_only`` or ``args.config_file`` is set.
    """
    if getattr(args, "eval_only", False):
        raise ValueError(
            "--stages trains; evaluate one config with --eval-only --config-file FILE "
            "MODEL.WEIGHTS CHECKPOINT"
        )
    if getattr(args, "config_file", ""):
        raise ValueError(
            f"--config-file {args.config_file!r} goes without --stages, which names all configs"
        )
    # The parser cannot know where the files end and the KEY VALUE pairs begin.
    files = list(itertools.takewhile(lambda word: word.endswith((".yaml", ".yml")), args.stages))
    if not files:
        raise ValueError(f"--stages needs yaml files, got {args.stages}")
    args = copy.copy(args)
    args.stages, args.opts = files, [*args.stages[len(files) :], *args.opts]
    names = [os.path.splitext(os.path.basename(path))[0] for path in files]
    outputs, bests = _output_folders(files, names, args.opts)
    result, weights, done = None, None, []
    for path, name, output, best in zip(files, names, outputs, bests):
        stage = copy.copy(args)
        stage.config_file = path
        stage.opts = [*args.opts, "OUTPUT_DIR", output]
        if weights is not None:
            stage.opts += ["MODEL.WEIGHTS", weights]
        final = os.path.join(output, "model_final.pth")
        if args.resume and os.path.isfile(final) and path != files[-1]:
            done.append(name)
        else:
            result = run(stage)
        weights = best if best and os.path.isfile(best) else final
    # Only now there is a log to write it to.
    logger.info("Stages run: %s; done before: %s", [n for n in names if n not in done], done)
    if comm.is_main_process():
        logger.info("Results:\n%s", stages_report(dict(zip(names, outputs))))
    return result


def _output_folders(
    files: Sequence[str], names: Sequence[str], opts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the folder of each stage, and its best checkpoint if the config asks for one or ""."""
    configs = [load_config(path, opts) for path in files]
    folders = [cfg.OUTPUT_DIR for cfg in configs]
    if "OUTPUT_DIR" in opts[::2]:
        folders = [os.path.join(folder, name) for folder, name in zip(folders, names)]
    if len({os.path.abspath(folder) for folder in folders}) != len(folders):
        raise ValueError(
            f"--stages would write several stages to the same folder, got {folders}: give the "
            "configs different OUTPUT_DIRs, or different file names and OUTPUT_DIR on the command "
            "line"
        )
    for folder in folders:
        check_output_folder(folder)
    bests = [
        os.path.join(folder, f"{BEST}.pth") if cfg.LT_DET.BEST_CHECKPOINT else ""
        for folder, cfg in zip(folders, configs)
    ]
    return folders, bests
