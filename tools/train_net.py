#!/usr/bin/env python
"""Train or evaluate a detector; Detectron2's flags, see --help.

python tools/train_net.py --config-file configs/lvis_balms_r50.yaml --num-gpus 8 \
        MODEL.WEIGHTS output/stage1/model_final.pth
python tools/train_net.py --num-gpus 8 --stages STAGE1.yaml configs/lvis_balms_r50.yaml
torchrun --nproc_per_node 8 tools/train_net.py --config-file ...
"""

from __future__ import annotations

import argparse
from typing import Any

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from lt_det.engine.stages import run_stages
from lt_det.engine.startup.launch import launch
from lt_det.engine.startup.setup import argument_parser, setup
from lt_det.engine.trainer import LongTailTrainer


def run(args: argparse.Namespace) -> Any:
    """Train one config, or evaluate it."""
    cfg = setup(args)
    if args.eval_only:
        results = LongTailTrainer.evaluate_checkpoint(cfg, resume=args.resume)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def main(args: argparse.Namespace) -> Any:
    """Run the stages of the command line, or its one config."""
    return run_stages(args, run) if args.stages else run(args)


if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
