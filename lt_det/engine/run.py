"""Run what the command line asks for: a training, an evaluation, or several stages."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from lt_det.engine.stages import run_stages
from lt_det.engine.startup.launch import launch
from lt_det.engine.startup.output_folder import config_of_started_runs
from lt_det.engine.startup.setup import argument_parser, read_config, setup
from lt_det.engine.trainer import LongTailTrainer
from lt_det.storage.atomic_write import naming_full_disk
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)


def run_config(args: argparse.Namespace) -> Any:
    """Train one config, or with ``args.eval_only`` evaluate it.

    An exception of the training loop has the attribute ``in_training``, True. One before it leaves
    the config.yaml of OUTPUT_DIR as it was.

    Args:
        args: as :func:`~lt_det.engine.startup.setup.argument_parser` returns them.

    Raises:
        ValueError: if the config contradicts itself, the data or the machine.
        FileNotFoundError: if config, data or weights are missing.
    """
    with config_of_started_runs(read_config(args.config_file, args.opts).OUTPUT_DIR):
        cfg = setup(args)
        if args.eval_only:
            results = LongTailTrainer.evaluate_checkpoint(cfg, resume=args.resume)
            if comm.is_main_process():
                verify_results(cfg, results)
            return results
        if not args.resume:
            _say_if_finished(cfg.OUTPUT_DIR)
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
    if trainer.start_iter >= trainer.max_iter and _is_evaluated(trainer.cfg, trainer.max_iter):
        logger.info(
            "Nothing to do: the training in OUTPUT_DIR %s has had all %d iterations "
            "(SOLVER.MAX_ITER, or till early stopping) and its results are in results.json",
            cfg.OUTPUT_DIR,
            trainer.max_iter,
        )
        return None
    try:
        # TensorBoard's writer ends a training as well where it finds no space.
        with naming_full_disk(cfg.OUTPUT_DIR, among_others=True):
            return trainer.train()
    except Exception as error:
        vars(error)["in_training"] = True
        raise


def _say_if_finished(folder: str) -> None:
    weights = os.path.join(folder, "model_final.pth")
    if comm.is_main_process() and os.path.isfile(weights):
        logger.warning(
            "OUTPUT_DIR %s holds a finished training (model_final.pth), which this one overwrites: "
            "stop it now and set another OUTPUT_DIR to keep that one",
            folder,
        )


def _is_evaluated(cfg: Any, iterations: int) -> bool:
    """Return whether results.json is of so many iterations, or nothing is to be evaluated."""
    if not cfg.DATASETS.TEST:
        return True
    try:
        path = os.path.join(cfg.OUTPUT_DIR, "results.json")
        with open_regular(path, "r", encoding="utf-8") as file:
            return json.load(file).get("iterations") == iterations
    except (OSError, ValueError):
        return False


def launch_stages(
    config_files: Sequence[str], options: Sequence[str], *, resume: bool, num_gpus: int
) -> None:
    """Train several configs in a row, as ``--stages`` does; see :func:`run_stages`.

    Args:
        config_files: of the stages, paths or names.
        options: KEY VALUE pairs of all stages.
        resume: skip stages that are done.
        num_gpus: processes on this machine.
    """
    words = ["--num-gpus", str(num_gpus), *(["--resume"] if resume else [])]
    args = argument_parser().parse_args(words)
    args.stages, args.opts = [*config_files], [*options]
    launch(_run_stages, args)


def _run_stages(args: argparse.Namespace) -> None:
    run_stages(args, run_config)
