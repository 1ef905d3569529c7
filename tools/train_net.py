#!/usr/bin/env python
"""Train or evaluate a detector; Detectron2's flags, see --help. The same as ``lt-det train``.

python tools/train_net.py --config-file configs/lvis_balms_r50.yaml --num-gpus 8 \
        MODEL.WEIGHTS output/stage1/model_final.pth
python tools/train_net.py --num-gpus 8 --stages STAGE1.yaml configs/lvis_balms_r50.yaml
torchrun --nproc_per_node 8 tools/train_net.py --config-file ...
"""

from __future__ import annotations

import sys

from lt_det.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
