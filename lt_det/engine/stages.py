"""Several trainings in a row, each from the checkpoint of the one before."""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import os
from typing import Any, Callable

from lt_det.engine.setup import load_config

logger = logging.getLogger(__name__)


def run_stages(args: argparse.Namespace, run: Callable[[argparse.Namespace], Any]) -> Any:
    """Call ``run`` for each config of ``args.stages``; return what the last call returns.

    Stage i writes to OUTPUT_DIR/NAME, with NAME its config's file name and OUTPUT_DIR that of the
    command line or of the first config. With ``args.resume`` a stage with ``model_final.pth`` is
    skipped, and the first unfinished one is resumed.

    Raises:
        ValueError: if two configs have the same file name, the first word is no yaml file, or
            ``args.eval_only`` is set.
    """
    if getattr(args, "eval_only", False):
        raise ValueError(
            "--stages trains; evaluate one config with --eval-only --config-file FILE "
            "MODEL.WEIGHTS CHECKPOINT"
        )
    # The parser cannot know where the files end and the KEY VALUE pairs begin.
    files = list(itertools.takewhile(lambda word: word.endswith((".yaml", ".yml")), args.stages))
    if not files:
        raise ValueError(f"--stages needs yaml files, got {args.stages}")
    args = copy.copy(args)
    args.stages, args.opts = files, [*args.stages[len(files) :], *args.opts]
    names = [os.path.splitext(os.path.basename(path))[0] for path in args.stages]
    if len(set(names)) != len(names):
        raise ValueError(f"--stages needs configs of different names, got {names}")
    root = load_config(args.stages[0], args.opts).OUTPUT_DIR
    result, weights, done = None, None, []
    for path, name in zip(args.stages, names):
        stage = copy.copy(args)
        output = os.path.join(root, name)
        stage.config_file = path
        stage.opts = [*args.opts, "OUTPUT_DIR", output]
        if weights is not None:
            stage.opts += ["MODEL.WEIGHTS", weights]
        weights = os.path.join(output, "model_final.pth")
        if args.resume and os.path.isfile(weights) and path != args.stages[-1]:
            done.append(name)
            continue
        result = run(stage)
    # Only now there is a log to write it to.
    logger.info("Stages run: %s; done before: %s", [n for n in names if n not in done], done)
    return result
