#!/usr/bin/env python
"""Time of one test image for a candidate of `lt-det balance`: through the detector, and from cache.

python benchmarks/balance.py

A whole Mask R-CNN R50-FPN with 1,203 classes, random weights, 1,000 regions of a random image; and
the same with 80 classes. Masks are left out on both sides.
"""

from __future__ import annotations

import torch
from detectron2.modeling import build_model
from timing import Row, median_ms, write_rows

from lt_det.balancing.frozen_images import box_stages, frozen_image
from lt_det.balancing.replay import Replay, differs
from lt_det.engine.startup.setup import read_config

HEIGHT, WIDTH = 512, 640
TARGET = 20
# Candidates of a pass, as lt-det balance evaluates them.
TOGETHER = 8


def row(num_classes: int) -> Row:
    """Return the row of a detector."""
    cfg = read_config("lvis_v1/balanced_softmax_r50.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.RPN.NMS_THRESH = 1.0  # random proposals would suppress each other
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.LT_DET.DECOUPLED = False
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        model.proposal_generator.rpn_head.anchor_deltas.weight.zero_()  # regions are anchors
        for stage in box_stages(model):
            stage.cls_score.weight.normal_(std=0.05)  # so that many classes are detected
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    sample = {"image": image, "height": HEIGHT, "width": WIDTH}
    frozen, expected = frozen_image(model, sample)
    replay = Replay(model)
    own = replay.own_classifiers()
    (found,) = replay.image(frozen)(own, [replay.own])
    assert not differs(found, expected)

    def detector() -> None:
        with torch.no_grad():
            model([sample])

    def candidates() -> None:
        detections = replay.image(frozen)
        for _ in range(TOGETHER):
            detections(own, [replay.own])

    times = median_ms({"stock": detector, "ours": candidates}, repeats=5)
    return Row(
        f"candidate of balance, {num_classes} classes, {len(frozen.boxes[0])} regions",
        times["stock"],
        times["ours"] / TOGETHER,
        "ms",
        target=TARGET,
        baseline_name="the detector",
        note=f"{TOGETHER} in a pass, time of one; same detections",
    )


def main() -> None:
    """Measure and write the rows."""
    write_rows(
        "balance",
        [row(80), row(1203)],
        title="Evaluation of a candidate",
        about=f"One image of {HEIGHT} x {WIDTH} pixels, boxes only, one thread.",
        command="python benchmarks/balance.py",
    )


if __name__ == "__main__":
    main()
