"""Write results.json: the results of a run, and what they came from."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import detectron2
import torch
from detectron2.utils import comm
from torch import nn

from lt_det.engine.evaluated_model import evaluated_model, is_announced
from lt_det.engine.evaluation_pictures import draw_evaluation
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.results import write_json
from lt_det.report.likelihood_plot import save_likelihood_plot
from lt_det.version import __version__


def write_run_record(
    cfg: Any,
    results: Mapping[str, Any],
    model: nn.Module | None = None,
    *,
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """Write OUTPUT_DIR/results.json, for a classifier its likelihoods, and the other pictures.

    The record: results, weights, command, commit, seed, versions, machine. The picture of the
    likelihoods has a line for each test set; LT_DET.EVAL.PICTURES False leaves it out.

    Only the main process writes; the file appears whole or not at all. In the middle of a training
    nothing is written: its numbers are in metrics.json, and the record of an earlier training
    stays. "weights" is null where no file has them, "iterations" where the file does not say how
    long they were trained.

    Args:
        cfg: config of the run.
        results: as the evaluators return them.
        model: for :func:`~lt_det.engine.evaluation_pictures.draw_evaluation`; None leaves it out.
            One that nobody has announced by :func:`~lt_det.engine.evaluated_model.evaluating`, as
            a copy with averaged weights or a wrapper for test-time augmentation, is not the run's:
            nothing is written.
        protocol: limits and detections an image of the results, see
            :mod:`lt_det.engine.detection_limits`.
    """
    if not comm.is_main_process() or (model is not None and not is_announced()):
        return
    if not evaluated_model().in_training:
        _write_record(cfg, results, protocol or {})
        if cfg.LT_DET.EVAL.PICTURES:
            _draw_likelihoods(cfg)
    if model is not None:
        draw_evaluation(cfg, model)


def _write_record(cfg: Any, results: Mapping[str, Any], protocol: Mapping[str, Any]) -> None:
    write_json(
        os.path.join(cfg.OUTPUT_DIR, "results.json"),
        {
            "results": {key: dict(value) for key, value in results.items()},
            "protocol": dict(protocol),
            "seed": cfg.SEED,
            "weights": evaluated_model().weights,
            "iterations": evaluated_model().iterations,
            "processes": comm.get_world_size(),
            **origin(),
        },
    )


def origin() -> dict[str, Any]:
    """Return what results come from: command, commit, versions of packages, machine."""
    return {
        "command": " ".join([os.path.basename(sys.executable), *sys.argv]),
        "commit": _commit(),
        "versions": {
            "lt_det": __version__,
            "detectron2": detectron2.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _draw_likelihoods(cfg: Any) -> None:
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    folders = {os.path.basename(cfg.OUTPUT_DIR.rstrip("/")): folder}
    if len(cfg.DATASETS.TEST) > 1:
        folders = {name: os.path.join(folder, name) for name in cfg.DATASETS.TEST}
    if all(os.path.isfile(os.path.join(path, "likelihood.json")) for path in folders.values()):
        picture = os.path.join(folder, "likelihood.png")
        with beside_results(f"drawing {picture}", files=[picture]):
            save_likelihood_plot(folders, picture)


def _commit() -> str | None:
    """Return the commit of the source tree, "+" where it has changes, None outside of git."""
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
