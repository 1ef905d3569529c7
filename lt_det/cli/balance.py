r"""``lt-det balance``: from a trained model to one that finds the rare classes.

lt-det balance --config-file output/run/config.yaml --output output/balanced \
        MODEL.WEIGHTS output/run/model_final.pth

Mask, Faster and Cascade R-CNN, RetinaNet (calibrations only), and image classifiers of lt_det. What
the model computes of the images is cached; calibrations and newly trained classifiers are tried on
it, of detectors with several limits of scores and overlaps; the simplest is chosen that no other
beats beyond luck. The result is a checkpoint and a config, balanced.pth and balanced.yaml, of
detectors for plain Detectron2, and the table of all that was tried. The same command again goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lt_det.balancing.choice import METRICS
from lt_det.balancing.options import BalanceOptions, objective_of
from lt_det.balancing.plan import plan_text
from lt_det.balancing.run import closing_words, plan_balance, run_balance
from lt_det.engine.startup.setup import load_config
from lt_det.storage.writable_folder import check_writable_folder

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    defaults = BalanceOptions()
    parser = argparse.ArgumentParser(
        prog="lt-det balance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, default=Path("output/balance"))
    parser.add_argument(
        "--choose-on", default="", metavar="SET", help="registered data set; default DATASETS.TEST"
    )
    parser.add_argument(
        "--objective",
        choices=METRICS,
        help="what is to be high (default: APr; images: mean_class, top-1 on balanced images)",
    )
    parser.add_argument(
        "--keep",
        choices=("none", *METRICS),
        help="what must not fall (default: AP or mean_class; none where that is the objective)",
    )
    parser.add_argument(
        "--at-most", type=float, default=0.0, metavar="POINTS", help="by which it may fall"
    )
    parser.add_argument(
        "--budget", type=_seconds, default=float("inf"), metavar="TIME", help="such as 10m or 2h"
    )
    parser.add_argument("--images", type=int, default=0, help="test images to choose on (0: all)")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate start and result through the whole model at the end: mask AP, calibration",
    )
    parser.add_argument(
        "--iterations", type=int, default=defaults.iterations, help="of each training"
    )
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="LOSS",
        help="loss to try too, and its taus; may be given several times",
    )
    parser.add_argument("--no-training", action="store_true", help="calibrations only")
    parser.add_argument("--seed", type=int, default=0, help="of halves, resamples and subsets")
    parser.add_argument("--plan", action="store_true", help="print steps, times and sizes only")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="override the config")
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Balance, and print the plan, the table and the choice."""
    args = parse_arguments(arguments)
    for name in ("images", "iterations"):
        if getattr(args, name) < (name == "iterations"):
            raise ValueError(f"--{name} must be at least {int(name == 'iterations')}")
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    cfg = load_config(args.config_file, args.options)
    keep = "" if args.keep == "none" else args.keep
    options = BalanceOptions(
        choose_on=args.choose_on,
        objective=objective_of(cfg, args.objective or "", keep, args.at_most),
        budget=args.budget,
        images=args.images,
        iterations=args.iterations,
        dtype=args.dtype,
        losses=tuple(args.add),
        train=not args.no_training,
        evaluate=args.evaluate,
        seed=args.seed,
    )
    output = args.output.resolve()
    check_writable_folder(output)
    if args.plan:
        subject, rows = plan_balance(cfg, options, output)
        print("\n".join([*subject.notes, plan_text(rows)]))
        return
    balanced = run_balance(cfg, options, output, say=lambda text: print(text, flush=True))
    print(balanced.outcome.text())
    print(closing_words(balanced))
