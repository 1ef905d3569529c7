r"""``lt-det posthoc-sweep``: evaluate trained image classifiers with many post-hoc settings.

lt-det posthoc-sweep --config-file cifar10_lt_ce.yaml \
        --weights output/cifar10_lt_ce/model_final.pth --held-out

tau-normalisation, post-hoc logit adjustment and the nearest class mean, in one pass over the
images, without training, in one table. Choose tau on images that were not trained on and are not
tested on: --held-out evaluates on the share LT_DET.CLASSIFICATION.HELD_OUT of the training images,
which the model must have been trained without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lt_det.data.images.datasets import HELD_OUT
from lt_det.engine.startup.setup import load_config
from lt_det.experiments.posthoc_sweep import PostHocPoint, post_hoc_points, run_post_hoc_sweep
from lt_det.report.sweep_table import sweep_table
from lt_det.storage.atomic_write import atomic_file

METRICS = ("top1", "mean_class", "many", "medium", "few", "natural", "ece")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det posthoc-sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--weights", nargs="+", required=True, metavar="FILE", help="checkpoints, e.g. of seeds"
    )
    parser.add_argument("--output", type=Path, default=Path("output/posthoc_sweep"))
    parser.add_argument(
        "--tau-norm", type=float, nargs="*", default=[0.25, 0.5, 0.75, 1.0], metavar="TAU"
    )
    parser.add_argument(
        "--logit-adjustment", type=float, nargs="*", default=[0.5, 1.0, 1.5, 2.0], metavar="TAU"
    )
    parser.add_argument("--no-nearest-mean", action="store_true")
    parser.add_argument(
        "--held-out", action="store_true", help="evaluate on the held-out training images"
    )
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help='override the config; after "--"'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Evaluate all settings and print the table; it is also written to OUTPUT/summary.md."""
    args = parse_arguments(arguments)
    cfg = load_config(args.config_file, args.options)
    if args.held_out:
        if not cfg.LT_DET.CLASSIFICATION.HELD_OUT:
            raise ValueError(
                "--held-out needs a model that was trained without some of the training images: "
                "train it with LT_DET.CLASSIFICATION.HELD_OUT 0.1, and say so here too"
            )
        cfg.DATASETS.TEST = tuple(f"{name}{HELD_OUT}" for name in cfg.DATASETS.TRAIN)
    points = post_hoc_points(
        tau_norm=args.tau_norm,
        logit_adjustment=args.logit_adjustment,
        nearest_mean=not args.no_nearest_mean,
    )
    rows: dict[PostHocPoint, list[Path]] = {point: [] for point in points}
    for number, weights in enumerate(args.weights):
        cfg.MODEL.WEIGHTS = weights
        folder = args.output.resolve() / f"weights{number}"
        points = run_post_hoc_sweep(cfg, points, folder)
        for point in points:
            rows[point].append(folder / point.name)
    table = sweep_table(
        {
            (point.method, "" if point.tau is None else f"{point.tau:g}"): folders
            for point, folders in rows.items()
            if folders
        },
        keys=["method", "tau"],
        metrics=[f"classification/{name}" for name in METRICS],
    )
    with atomic_file(args.output / "summary.md") as file:
        file.write(f"On {', '.join(cfg.DATASETS.TEST)}:\n\n{table}\n")
    print(table)
