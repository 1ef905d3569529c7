"""Trainings of the demo: the methods that are compared, and how they are run.

Each is one call of tools/train_net.py in a process of its own, just as a user would make it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.build import EmojiScenes
from lt_det.experiments.sweep import run_chains
from lt_det.report.runs import Run


@dataclass(frozen=True)
class Comparison:
    """Methods that are trained on the same data and put into one table.

    Attributes:
        methods: config in configs/demo -> name in tables.
        baseline: the method that differences are taken to.
        start: the method whose checkpoint all others start from; None: each trains by itself.
        tasks: what the methods predict, "bbox" and "segm".
        drawn_from: score from which on detections are drawn.
    """

    methods: Mapping[str, str]
    baseline: str
    start: str | None
    tasks: Sequence[str]
    drawn_from: float = 0.2


COMPARISONS = {
    "balms": Comparison(
        {
            "stage1": "stage 1: softmax",
            "finetune": "(a) plain fine-tuning",
            "balanced_softmax": "(b) Balanced Softmax",
            "balms": "(c) BALMS",
        },
        baseline="finetune",
        start="stage1",
        tasks=("bbox", "segm"),
    ),
    "retinanet": Comparison(
        {
            "retinanet_focal": "FL",
            "retinanet_focal_halted_tail": "FL(head) + HFL(tail)",
            "retinanet_eureka": "Eureka",
        },
        baseline="retinanet_focal",
        start=None,
        tasks=("bbox",),
        drawn_from=0.45,
    ),
}


def train_command(
    repository: Path,
    scenes: EmojiScenes,
    method: str,
    *,
    output: Path,
    seed: int,
    start: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that trains and evaluates one method.

    Args:
        repository: folder with tools/ and configs/.
        scenes: the data set.
        method: name of a config in configs/demo.
        output: folder of this seed; the run goes to its subfolder ``method``.
        seed: SEED of the run.
        start: method whose checkpoint of this seed the run starts from.
        options: KEY VALUE pairs that override the config.
    """
    sets = [
        ["emoji_scenes_train", str(scenes.train_json), str(scenes.root)],
        ["emoji_scenes_val", str(scenes.val_json), str(scenes.root)],
    ]
    command = [sys.executable, str(repository / "tools" / "train_net.py")]
    command += ["--config-file", str(repository / "configs" / "demo" / f"{method}.yaml")]
    command += ["LT_DET.DATASETS", repr(sets), "SEED", str(seed)]
    command += ["OUTPUT_DIR", str(output / method)]
    if start is not None:
        command += ["MODEL.WEIGHTS", str(output / start / "model_final.pth")]
    return [*command, *options]


def run_methods(
    repository: Path,
    scenes: EmojiScenes,
    output: Path,
    comparison: Comparison,
    *,
    seeds: Sequence[int],
    parallel: int = 1,
    options: Sequence[str] = (),
) -> dict[str, list[Run]]:
    """Train and evaluate every method for every seed; return the runs by name in tables.

    Runs that have their results already are kept.

    Args:
        repository: folder with tools/ and configs/.
        scenes: the data set.
        output: results go to ``output/seed<seed>/<method>``.
        comparison: what to train; its ``start`` first.
        seeds: one chain of runs for each.
        parallel: see :func:`~lt_det.experiments.sweep.run_chains`.
        options: KEY VALUE pairs that override every config.

    Raises:
        RuntimeError: if a training fails; names its log.
    """
    run_chains(
        [
            [
                (
                    train_command(
                        repository,
                        scenes,
                        method,
                        output=output / f"seed{seed}",
                        seed=seed,
                        start=comparison.start if method != comparison.start else None,
                        options=options,
                    ),
                    output / f"seed{seed}" / method,
                )
                for method in comparison.methods
            ]
            for seed in seeds
        ],
        parallel=parallel,
    )
    return {
        name: [Run.read(str(output / f"seed{seed}" / method)) for seed in seeds]
        for method, name in comparison.methods.items()
    }
