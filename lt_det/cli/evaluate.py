"""``lt-det evaluate``: evaluate a checkpoint, or a json of detections without Detectron2.

lt-det evaluate --config-file lvis_balms_r50.yaml MODEL.WEIGHTS output/model_final.pth
lt-det evaluate val.json detections.json --train-json train.json

The first is ``lt-det train --eval-only`` and has its flags. The second gives LVIS AP of a
COCO- or LVIS-format json; r, c and f are the classes' groups in the training set, or else those
that the json declares.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from lt_det.api import class_stats, evaluate_lvis
from lt_det.evaluation.analysis.options import MODES, options_of_mode
from lt_det.evaluation.lvis.average_precision import BACKENDS, IOU_TYPES
from lt_det.evaluation.lvis.json_evaluation import summary_table


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; with ``--config-file`` as ``lt-det train`` parses it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.split("=")[0] == "--config-file" for word in words):
        from lt_det.cli.train import parse_arguments as parse_training

        return parse_training(["--eval-only", *words])
    parser = argparse.ArgumentParser(
        prog="lt-det evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ground_truth", metavar="VAL.json")
    parser.add_argument("detections", metavar="DETECTIONS.json", help="list of result records")
    parser.add_argument("--train-json", help="training set, whose counts make the groups")
    parser.add_argument("--output", help="folder for per_category_{bbox,segm}.{json,csv}")
    parser.add_argument(
        "--iou-type", nargs="+", choices=IOU_TYPES, help="default: boxes, and masks if there are"
    )
    parser.add_argument("--max-dets", type=int, default=300, help="detections kept for each image")
    parser.add_argument(
        "--analysis",
        choices=MODES,
        default="off",
        help="what lies behind AP, into the folder of --output; full: boundary AP of masks, too",
    )
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="hotcoco")
    args = parser.parse_args(words)
    if args.analysis != "off" and not args.output:
        parser.error("--analysis needs --output, the folder of its files")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate and print the table."""
    args = parse_arguments(arguments)
    if hasattr(args, "config_file"):
        from lt_det.cli.train import run
        from lt_det.engine.startup.launch import launch

        launch(run, args)
        return
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    results = evaluate_lvis(
        args.ground_truth,
        args.detections,
        stats=class_stats(args.train_json) if args.train_json else None,
        iou_types=args.iou_type,
        max_dets=args.max_dets,
        backend=args.backend,
        output_dir=args.output,
        analysis=options_of_mode(args.analysis),
    )
    for iou_type, result in results.items():
        print(f"{iou_type}:\n{summary_table(result)}\n")
