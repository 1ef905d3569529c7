"""The demo's trainings: a baseline, then three second stages from its checkpoint.

Each is one call of tools/train_net.py in a process of its own, just as a user would make it.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Sequence

from tqdm import tqdm

from lt_det.demo.build import EmojiScenes
from lt_det.engine.sweep import run_unless_done
from lt_det.report.runs import Run

STAGE_1 = "stage1"
#: Config in configs/demo -> name in tables. All but the first start from the first's checkpoint.
METHODS = {
    STAGE_1: "stage 1: softmax",
    "finetune": "(a) plain fine-tuning",
    "balanced_softmax": "(b) Balanced Softmax",
    "balms": "(c) BALMS",
}


def train_command(
    repository: Path,
    scenes: EmojiScenes,
    method: str,
    *,
    output: Path,
    seed: int,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that trains and evaluates one method.

    Args:
        repository: folder with tools/ and configs/.
        scenes: the data set.
        method: key of :data:`METHODS`.
        output: folder of this seed; the run goes to its subfolder ``method``.
        seed: SEED of the run.
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
    if method != STAGE_1:
        command += ["MODEL.WEIGHTS", str(output / STAGE_1 / "model_final.pth")]
    return [*command, *options]


def run_methods(
    repository: Path,
    scenes: EmojiScenes,
    output: Path,
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
        seeds: one chain of four runs for each.
        parallel: chains at a time. One shows its trainings on the terminal, several write to
            log files and show one progress bar.
        options: KEY VALUE pairs that override every config.

    Raises:
        RuntimeError: if a training fails; names its log.
    """
    with tqdm(total=len(seeds) * len(METHODS), desc="runs", unit="run", disable=None) as bar:

        def chain(seed: int) -> None:
            folder = output / f"seed{seed}"
            for method in METHODS:
                command = train_command(
                    repository, scenes, method, output=folder, seed=seed, options=options
                )
                alone = parallel == 1
                run_unless_done(command, folder / method, quiet=not alone, single_thread=not alone)
                bar.update()

        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(chain, seeds))
    return {
        name: [Run.read(str(output / f"seed{seed}" / method)) for seed in seeds]
        for method, name in METHODS.items()
    }
