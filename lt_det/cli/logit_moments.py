r"""``lt-det logit-moments``: collect what the calibration LogN needs, without training.

lt-det logit-moments --config-file stage1.yaml --output moments.json \
        MODEL.WEIGHTS output/model_final.pth
lt-det evaluate --config-file stage1.yaml MODEL.WEIGHTS output/model_final.pth \
        LT_DET.POST_HOC.LOGN moments.json

Mean and variance of each class's logit over the training images, in one pass. They belong to the
weights: collect them anew for others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det logit-moments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument(
        "--max-images", type=int, default=0, help="spread evenly over the training set; 0: all"
    )
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="override the config")
    args = parser.parse_args(arguments)
    if args.max_images < 0:
        parser.error(f"--max-images must be at least 0, got {args.max_images}")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Collect the moments and write them."""
    args = parse_arguments(arguments)
    from lt_det.engine.logit_moments import collect_logit_moments, moments_record
    from lt_det.engine.startup.setup import load_config
    from lt_det.storage.atomic_write import atomic_file

    cfg = load_config(args.config_file, args.options)
    moments = collect_logit_moments(cfg, max_images=args.max_images)
    with atomic_file(args.output) as file:
        json.dump(moments_record(cfg, moments), file)
    rows = ", ".join(f"{one.count} regions of {len(one.mean)} columns" for one in moments)
    print(f"{args.output}: {rows}; use it with LT_DET.POST_HOC.LOGN {args.output}")
