#!/usr/bin/env python
"""Compare the methods of both papers on CIFAR-10-LT, imbalance factor 100.

python tools/classification_study.py --data cifar-10-batches-py --seeds 0 1 2 --parallel 2

That is docs/background/classification_study.md: a reduced recipe, two CPU minutes a run.
``--recipe paper`` trains as the papers did, for hours on a GPU; ``--recipe memorised`` trains the
meta learners and what they are compared with until the training set is known by heart. Runs that
are finished are kept: the same command continues an interrupted one, and other settings need
another --output. Second stages start from the cross-entropy run of their seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from lt_det.engine.startup.setup import read_config
from lt_det.experiments.sweep import run_chains
from lt_det.report.sweep_table import sweep_table
from lt_det.storage.atomic_write import atomic_file

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = Path("configs") / "classification"
PREFIX = "cifar10_lt_"
COLUMNS = ("method", "BALMS paper", "Eureka paper")


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        config: file name without :data:`PREFIX`.
        name: in the table.
        balms: top-1 of arXiv:2007.10740, Tables 2 and 5, CIFAR-10-LT 100.
        eureka: top-1 of OpenReview 7Yhok3vJpU, Tables 8 and 10 and Fig. 3.
        recipe_of_balms: whether the paper's recipe of its config is BALMS's, 13,000 iterations.
    """

    config: str
    name: str
    balms: str = ""
    eureka: str = ""
    recipe_of_balms: bool = False


#: Every method; the first one trains what the second stages start from.
METHODS = (
    Method("ce", "CE", "77.4 ± 0.8", "71.4 ± 0.5"),
    Method("balanced_softmax", "Balanced Softmax", "83.1 ± 0.4", recipe_of_balms=True),
    Method("crt", "cRT", "82.0 ± 0.2", recipe_of_balms=True),
    Method("balanced_softmax_decoupled", "BS decoupled", "83.7", recipe_of_balms=True),
    Method("balms", "BALMS (Meta Sampler)", "84.9 ± 0.1", recipe_of_balms=True),
    Method("balanced_softmax_reweighter", "BS, Meta Reweighter", "84.1", recipe_of_balms=True),
    Method("balanced_softmax_quarter", "BS 1/4", "78.4 ± 0.9", recipe_of_balms=True),
    Method("focal", "Focal", "77.1 ± 0.2", "71.3 ± 0.6"),
    Method("class_balanced", "CB", "78.2 ± 1.1"),
    Method("ldam_drw", "LDAM-DRW", "", "77.03"),
    Method("eureka", "Eureka"),
    Method("eureka_deferred", "Eureka deferred", "", "76.1"),
    Method("eureka_cb_deferred", "EL+CB deferred", "", "77.95"),
    Method("halted_focal_0.4", "HFL(0.4)"),
)
#: recipe -> config that second stages start from
RECIPES = {"reduced": "ce", "paper": "stage1", "memorised": "ce"}
META_LEARNERS = ("balms", "balanced_softmax_reweighter")
#: The same loss without one, as a second stage and end to end.
NO_META_LEARNERS = ("balanced_softmax_decoupled", "balanced_softmax")
#: BALMS and the Eureka paper have schedules of their own, and so cross-entropy has two rows.
STAGE_1_OF_BALMS = Method("stage1", "CE, recipe of BALMS", "77.4 ± 0.8", recipe_of_balms=True)


def methods_of(recipe: str) -> tuple[Method, ...]:
    """Return the rows of a recipe, what second stages start from before them."""
    if recipe == "memorised":
        by_config = {m.config: m for m in METHODS}
        return tuple(by_config[c] for c in ("ce", *META_LEARNERS, *NO_META_LEARNERS))
    return METHODS if recipe == "reduced" else (STAGE_1_OF_BALMS, *METHODS)


def comparisons(recipe: str) -> list[tuple[Method, tuple[Method, ...]]]:
    """Return baselines, each with the methods that share its recipe, itself among them."""
    ce, balanced_softmax = METHODS[:2]
    if recipe == "memorised":
        methods = methods_of(recipe)
        return [(m, methods) for m in methods if m.config in NO_META_LEARNERS]
    if recipe == "reduced":
        return [(ce, METHODS), (balanced_softmax, METHODS)]
    of_balms = tuple(m for m in methods_of(recipe) if m.recipe_of_balms)
    others = tuple(m for m in METHODS if not m.recipe_of_balms)
    return [(STAGE_1_OF_BALMS, of_balms), (ce, others), (balanced_softmax, of_balms)]


def data_sets(cfg: Any, path: Path) -> list[list[str]]:
    """Return the config's data sets, to be read from ``path``: an npz, or CIFAR's own folder."""
    kind = "npz" if path.suffix == ".npz" else "cifar10"
    return [
        [name, kind, str(path.resolve()), split]
        for name, _, _, split in cfg.LT_DET.CLASSIFICATION.DATASETS
    ]


def recipe_options(cfg: Any, recipe: str) -> list[str]:
    """Return the KEY VALUE pairs that train the config of a paper's recipe with ``recipe``."""
    if recipe == "paper":
        return []
    ending = "_deferred" if cfg.LT_DET.DEFER.START_ITER else ""
    ending = "_stage2" if cfg.LT_DET.DECOUPLED else ending
    path = REPOSITORY / CONFIGS / "_base_" / f"schedule_{recipe}{ending}.yaml"
    return [*_pairs(CfgNode.load_yaml_with_base(str(path)))]


def _pairs(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield from (f"{prefix}{key}", str(value))


def train_command(
    config: str, folder: Path, *, seed: int, recipe: str, data: Path, options: Sequence[str]
) -> list[str]:
    """Return the command that trains and evaluates one method into ``folder``.

    Args:
        config: of a :class:`Method`.
        folder: OUTPUT_DIR; the runs of one seed lie beside each other.
        seed: SEED of the run; the long-tailed subset is the same for all.
        recipe: key of :data:`RECIPES`.
        data: see :func:`data_sets`.
        options: KEY VALUE pairs that override config and recipe.
    """
    file = REPOSITORY / CONFIGS / f"{PREFIX}{config}.yaml"
    cfg = read_config(str(file), options)
    options = [*recipe_options(cfg, recipe), *options]
    command = [sys.executable, str(REPOSITORY / "tools" / "train_net.py"), "--resume"]
    command += ["--config-file", str(file)]
    command += ["LT_DET.CLASSIFICATION.DATASETS", repr(data_sets(cfg, data))]
    command += ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
    command += ["MODEL.DEVICE", "cuda" if torch.cuda.is_available() else "cpu"]
    if cfg.LT_DET.DECOUPLED:
        command += ["MODEL.WEIGHTS", str(folder.parent / RECIPES[recipe] / "model_final.pth")]
    return [*command, *options]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="cifar-10-batches-py, or an npz of JPEGs"
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="reduced")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--output", type=Path, help="default: output/classification_study, with paper ..._paper"
    )
    parser.add_argument("--parallel", type=int, default=1, help="seeds at a time")
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help='override keys of every config; after "--"'
    )
    args = parser.parse_args(arguments)
    if args.output is None:
        ending = "" if args.recipe == "reduced" else f"_{args.recipe}"
        args.output = Path("output") / f"classification_study{ending}"
    return args


def main(arguments: list[str] | None = None) -> None:
    """Train and evaluate every method for every seed, print the tables and write them."""
    args = parse_arguments(arguments)
    if not args.data.exists():
        raise SystemExit(f"--data {args.data} does not exist")
    methods, output = methods_of(args.recipe), args.output.resolve()
    folders = {
        method: [output / f"seed{seed}" / method.config for seed in args.seeds]
        for method in methods
    }
    run_chains(
        [
            [
                (
                    train_command(
                        method.config,
                        folders[method][index],
                        seed=seed,
                        recipe=args.recipe,
                        data=args.data,
                        options=args.options,
                    ),
                    folders[method][index],
                )
                for method in methods
            ]
            for index, seed in enumerate(args.seeds)
        ],
        parallel=args.parallel,
    )
    text = tables(folders, recipe=args.recipe)
    with atomic_file(output / "summary.md") as file:
        file.write(text + "\n")
    print(text)


def tables(folders: dict[Method, list[Path]], *, recipe: str) -> str:
    """Return the table of results, and those of the differences to a method of the same recipe."""
    rows = {(m.name, m.balms, m.eureka): paths for m, paths in folders.items()}
    parts = [sweep_table(rows, keys=COLUMNS, digits=1)]
    for baseline, methods in comparisons(recipe):
        names = {(m.name,): folders[m] for m in methods}
        parts.append(f"Minus {baseline.name}, seed by seed:")
        parts.append(sweep_table(names, keys=COLUMNS[:1], baseline=(baseline.name,), digits=1))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
