"""``lt-det predict``: predict on images with a trained model, draw and list what it finds.

lt-det predict photos/ --weights output/model_final.pth --output predictions/
lt-det predict a.jpg b.jpg --weights output/ --output predictions/ --threshold 0.3

A detector writes predictions.json, COCO's format with scores and the category ids of the training
json, and pictures/ with class names and scores. An image classifier writes predictions.csv, the
best classes of each image, and sheet.png. The config is config.yaml beside the weights. Thresholds
by class are read from thresholds.json beside them, class name -> score. Images that cannot be
read are named, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from lt_det.engine.prediction.predict import predict
from lt_det.shown_text import for_terminal


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER", help="searched to the bottom")
    parser.add_argument("--weights", required=True, help="checkpoint, or the folder of a run")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--config-file", metavar="FILE", help="default: config.yaml beside weights")
    parser.add_argument(
        "--threshold", type=float, metavar="SCORE", help="one for all classes (default: 0.5)"
    )
    parser.add_argument(
        "--thresholds", metavar="FILE", help="by class (default: thresholds.json beside weights)"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="images at once (default: 4; classifiers: 64)"
    )
    parser.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="classes named by an image classifier"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the json or csv only")
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="KEY VALUE", help="on top of the config"
    )
    args = parser.parse_args(arguments)
    if args.threshold is not None and args.thresholds is not None:
        parser.error("give --threshold or --thresholds, not both")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict and say where the results are; return 1 if an image could not be read."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    done = predict(
        args.weights,
        args.inputs,
        args.output,
        config_file=args.config_file,
        options=args.options,
        threshold=args.threshold,
        thresholds_file=args.thresholds,
        batch_size=args.batch_size,
        top_k=args.top_k,
        pictures=not args.no_pictures,
    )
    print(f"{len(done.images)} images predicted.")
    for path, what in done.files.items():
        print(for_terminal(f"{path}: {what}"))
    for note in done.notes:
        print(for_terminal(note), file=sys.stderr)
    if done.broken:
        print(f"{len(done.broken)} images could not be read:", file=sys.stderr)
        for one in done.broken:
            print(for_terminal(f"  {one.name}: {one.reason}"), file=sys.stderr)
    return int(bool(done.broken))
