r"""``lt-det posthoc-sweep``: evaluate trained models with many post-hoc settings.

lt-det posthoc-sweep --config-file cifar10_lt_ce.yaml \
        --weights output/cifar10_lt_ce/model_final.pth --held-out
lt-det posthoc-sweep --config-file mask_rcnn_r50_fpn_lvis_v1.yaml \
        --weights output/stage1/model_final.pth --norcal 0.3 0.6 --fracal 2

tau-normalisation, post-hoc logit adjustment, NorCal, FRACAL (detectors), LogN and the nearest class
mean (images), without training, in one table. Images go through an image classifier once, for all
settings; a detector is evaluated once for each that you name. Choose tau on images that were not
trained on and are not tested on: --held-out evaluates on the share
LT_DET.CLASSIFICATION.HELD_OUT of the training images, which the model must have been trained
without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lt_det.data.images.datasets import HELD_OUT
from lt_det.engine.startup.setup import load_config
from lt_det.experiments.posthoc_sweep import (
    PostHocPoint,
    classifies_images,
    post_hoc_points,
    run_post_hoc_sweep,
)
from lt_det.report.sweep_table import sweep_table
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import check_regular

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
        "--tau-norm",
        type=float,
        nargs="*",
        metavar="TAU",
        help="images: 0.25 0.5 0.75 1 if not given",
    )
    parser.add_argument(
        "--logit-adjustment",
        type=float,
        nargs="*",
        metavar="TAU",
        help="images: 0.5 1 1.5 2 if not given",
    )
    parser.add_argument(
        "--norcal", type=float, nargs="*", default=[], metavar="GAMMA", help="softmax losses"
    )
    parser.add_argument(
        "--fracal", type=float, nargs="*", default=[], metavar="LAMBDA", help="detectors"
    )
    parser.add_argument(
        "--logn",
        nargs="+",
        default=[],
        metavar="FILE",
        help="logit moments of lt-det logit-moments, one file for each of --weights",
    )
    parser.add_argument("--no-nearest-mean", action="store_true")
    parser.add_argument(
        "--held-out", action="store_true", help="evaluate on the held-out training images"
    )
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help='override the config; after "--"'
    )
    args = parser.parse_args(arguments)
    if args.logn and len(args.logn) != len(args.weights):
        parser.error(
            f"--logn needs one file for each of the {len(args.weights)} --weights, got "
            f"{len(args.logn)}"
        )
    return args


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
    # All of them, before hours of the first.
    for flag, paths in (("--weights", args.weights), ("--logn", args.logn or ())):
        for path in paths:
            if "://" not in path and not Path(path).is_file():
                check_regular(path)
                raise FileNotFoundError(f"{flag} {path!r} does not exist: correct the path")
    images = classifies_images(cfg)
    usual = {"tau_norm": (0.25, 0.5, 0.75, 1.0), "logit_adjustment": (0.5, 1.0, 1.5, 2.0)}
    points = post_hoc_points(
        **{
            name: (taus if images else ()) if getattr(args, name) is None else getattr(args, name)
            for name, taus in usual.items()
        },
        norcal=args.norcal,
        fracal=args.fracal,
        logn=bool(args.logn),
        nearest_mean=images and not args.no_nearest_mean,
    )
    rows: dict[PostHocPoint, list[Path]] = {point: [] for point in points}
    for number, weights in enumerate(args.weights):
        cfg.MODEL.WEIGHTS = weights
        folder = args.output.resolve() / f"weights{number}"
        moments = args.logn[number] if args.logn else ""
        points = run_post_hoc_sweep(cfg, points, folder, moments=moments)
        for point in points:
            rows[point].append(folder / point.name)
    table = sweep_table(
        {
            (point.method, "" if point.tau is None else f"{point.tau:g}"): folders
            for point, folders in rows.items()
            if folders
        },
        keys=["method", "tau"],
        metrics=[f"classification/{name}" for name in METRICS] if images else None,
    )
    with atomic_file(args.output / "summary.md") as file:
        file.write(f"On {', '.join(cfg.DATASETS.TEST)}:\n\n{table}\n")
    print(table)
