"""Post-processing: detections from scores and boxes, Detectron2's code against ours.

    python benchmarks/post_processing.py

Boxes, scores, classes and kept indices of the two are compared before anything is timed, with
Detectron2's code on scores of which none are equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference as stock_inference
from timing import Row, in_child, median_ms, peak_growth_mb, write_rows

from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.postprocessing.roi import fast_rcnn_inference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGE = (800, 1216)
PROPOSALS = 1000
DETECTIONS = 300
THRESHOLD = 1e-4  # Detectron2's for LVIS
REPEATS = 5
COMMAND = "python benchmarks/post_processing.py"

Side = Callable[[], object]
Sides = dict[str, Side]


def objects(num_proposals: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return proposals around 12 objects and in the background, and the object of each (or -1)."""
    extent = torch.tensor([IMAGE[1], IMAGE[0]], dtype=torch.float32)
    corners = torch.rand(num_proposals, 2) * extent * 0.8
    boxes = torch.cat([corners, corners + 16 + torch.rand(num_proposals, 2) * 300], dim=1)
    owner = torch.randint(-12, 12, (num_proposals,)).clamp(min=-1)
    near = boxes[torch.randperm(num_proposals)[:12]][owner.clamp(min=0)]
    jittered = near + torch.randn(num_proposals, 4) * 8
    return torch.where(owner[:, None] >= 0, jittered, boxes), owner


def logits_of(kind: str, owner: torch.Tensor, num_classes: int, head: str) -> torch.Tensor:
    """Return logits as of a model before ("untrained") and after training.

    Untrained: the classifier starts with weights of 0.01, on 1,024 features of about 1; a sigmoid
    head with a bias for scores of 0.001. Trained: an object's class leads, the classes that look
    like it follow, and each class has its own mean as class frequencies give it.
    """
    logits = torch.randn(len(owner), num_classes + 1) * 0.3
    if kind != "untrained":
        logits = logits * 3 + torch.randn(num_classes + 1) * 2
        looks_like = torch.randn(12, num_classes + 1) * 2
        leader = torch.randint(0, num_classes, (12,))
        looks_like[torch.arange(12), leader] += 9
        logits += torch.where(owner[:, None] >= 0, looks_like[owner.clamp(min=0)], 0.0)
        logits[:, -1] += torch.where(owner >= 0, 2.0, 8.0)
    return logits - (6.9 if head == "sigmoid" else 0.0)


def roi_case(num_classes: int, kind: str, head: str, boxes_kind: str) -> Sides:
    torch.manual_seed(0)
    proposals, owner = objects(PROPOSALS)
    logits = logits_of(kind, owner, num_classes, head)
    if head == "softmax":
        scores = logits.softmax(dim=1)
    else:
        scores = torch.cat([logits[:, :-1].sigmoid(), torch.zeros(PROPOSALS, 1)], dim=1)
    if kind == "half precision":
        scores = scores.half().float()  # many are equal
    boxes = proposals
    if boxes_kind == "class-specific":
        noise = torch.randn(PROPOSALS, num_classes, 4) * 3
        boxes = (proposals[:, None] + noise).reshape(PROPOSALS, -1)
    boxes, scores = boxes.to(DEVICE), scores.to(DEVICE)

    def side(function: Callable) -> Side:
        return lambda: function([boxes], [scores], [IMAGE], THRESHOLD, 0.5, DETECTIONS)

    def in_order() -> object:
        (ranks,), values = distinct([scores[:, :-1]], scores.numel())
        ranks = torch.cat([ranks, scores[:, -1:]], dim=1)
        found, regions = stock_inference([boxes], [ranks], [IMAGE], 0.99, 0.5, DETECTIONS)
        found[0].scores = values[found[0].scores.long()]
        return found, regions

    return {"stock": side(stock_inference), "ours": side(fast_rcnn_inference), "check": in_order}


def retinanet_case(num_classes: int, kind: str) -> Sides:
    """Five levels of an image of 480 x 640 with nine anchors a place, 57,600 anchors."""
    torch.manual_seed(0)
    height, width = 480, 640
    strides = [8, 16, 32, 64, 128]
    sizes = [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)]
    generator = DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=[[0.5, 1.0, 2.0]], strides=strides
    )
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in strides]
    anchors = [a.to(DEVICE) for a in generator(maps)]
    scores, deltas = [], []
    for level in anchors:
        logits = torch.randn(len(level), num_classes).mul_(0.1).sub_(4.6)  # prior 0.01
        if kind == "trained":
            logits.mul_(3).add_(torch.randn(num_classes) * 1.5 + 6)
            logits[torch.rand(len(level)) < 0.01] += 5
        scores.append(logits.sigmoid_().to(DEVICE))
        deltas.append(torch.randn(len(level), 4, device=DEVICE) * 0.1)

    def model_of(cls: type) -> Any:
        model = cls.__new__(cls)
        torch.nn.Module.__init__(model)
        model.box2box_transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        model.test_score_thresh, model.test_topk_candidates = THRESHOLD, 1000
        model.test_nms_thresh, model.max_detections_per_image = 0.5, DETECTIONS
        model.fast_inference = True
        return model

    def side(cls: type) -> Side:
        model = model_of(cls)
        return lambda: model.inference_single_image(anchors, scores, deltas, (height, width))

    def in_order() -> object:
        ranks, values = distinct(scores, 1000)
        model = model_of(RetinaNet)
        model.test_score_thresh = 0.99
        found = model.inference_single_image(anchors, ranks, deltas, (height, width))
        found.scores = values[found.scores.long()]
        return found

    return {"stock": side(RetinaNet), "ours": side(LongTailRetinaNet), "check": in_order}


def build(name: str) -> Sides:
    detector, classes, kind, *others = name.split(", ")
    num_classes = int(classes.removesuffix(" classes").replace(",", ""))
    if detector == "RetinaNet":
        return retinanet_case(num_classes, kind)
    return roi_case(num_classes, kind, detector.removesuffix(" head"), *others)


def distinct(levels: list[torch.Tensor], most: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return scores without equals, and what they stand for.

    The best ``most`` of each level become 1, 2, 3 ... by rising score, and with the last in our
    order first. The second value is indexed by them. The others stay as they are, below 1.
    """
    values, places = [], []
    for level in levels:
        flat = level.reshape(-1)
        worst = float(flat.topk(min(most, len(flat)))[0][-1])
        places.append((flat >= worst if worst > THRESHOLD else flat > THRESHOLD).nonzero()[:, 0])
        values.append(flat[places[-1]])
    rising, order = torch.cat(values).flip(0).sort(stable=True)
    ranks = torch.empty_like(rising)
    ranks[order] = torch.arange(1, len(order) + 1, device=order.device, dtype=ranks.dtype)
    result = []
    for level, place, rank in zip(levels, places, ranks.flip(0).split([len(p) for p in places])):
        result.append(level.flatten().index_put((place,), rank).view_as(level))
    return result, torch.cat([rising[:1], rising])


def check(sides: Sides) -> None:
    """Raise unless both sides give the same tensors in the same order.

    "check" is Detectron2's code on distinct scores; it returns what they stand for.
    """

    def flat(result: object) -> list[torch.Tensor]:
        if isinstance(result, tuple):
            return flat(result[0][0]) + list(result[1])
        return [result.pred_boxes.tensor, result.scores, result.pred_classes]

    for a, b in zip(flat(sides["check"]()), flat(sides["ours"]())):
        if a.dtype != b.dtype or not torch.equal(a, b):
            raise SystemExit("the detections differ")


ROI_CASES = {
    80: [
        ("softmax", "untrained", "class-agnostic"),
        ("softmax", "trained", "class-specific"),
        ("sigmoid", "trained", "class-agnostic"),
    ],
    1203: [
        ("softmax", "untrained", "class-agnostic"),
        ("softmax", "trained", "class-agnostic"),
        ("softmax", "trained", "class-specific"),
        ("sigmoid", "untrained", "class-specific"),
        ("sigmoid", "trained", "class-agnostic"),
        ("sigmoid", "half precision", "class-agnostic"),
    ],
}


def names() -> list[str]:
    roi = [
        f"{head} head, {num_classes:,} classes, {kind}, {boxes}"
        for num_classes, cases in ROI_CASES.items()
        for head, kind, boxes in cases
    ]
    dense = [
        f"RetinaNet, {num_classes:,} classes, {kind}"
        for num_classes in ROI_CASES
        for kind in ("untrained", "trained")
    ]
    return roi + dense


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "SIDE"), help="used by itself")
    parser.add_argument("--cases", default="", help="only those with this text in their names")
    args = parser.parse_args()
    if args.memory:
        function = build(args.memory[0])[args.memory[1]]
        print(peak_growth_mb(function))
        return
    rows: list[Row] = []
    try:
        for name in names():
            if args.cases in name:
                rows += measure(name)
    finally:  # what was measured before an interrupt is kept
        report(rows, command=f'{COMMAND} --cases "{args.cases}"' if args.cases else COMMAND)


def measure(name: str) -> list[Row]:
    sides = build(name)
    check(sides)  # also the warm-up
    del sides["check"]
    times = median_ms(sides, repeats=REPEATS, warm_up=0)
    print(name, times, flush=True)
    del sides
    target = 50 if "1,203" in name else None
    rows = [Row(name, times["stock"], times["ours"], "ms", target=target)]
    if "1,203" in name:
        peaks = {side: in_child(__file__, "--memory", name, side) for side in times}
        rows.append(Row(f"memory: {name}", peaks["stock"], peaks["ours"], "MB"))
    return rows


def report(rows: list[Row], *, command: str) -> None:
    write_rows(
        "post_processing",
        rows,
        title="Post-processing",
        about="Detections from the scores and boxes of one image; boxes, scores, classes and kept "
        "indices are compared, and equal to the last bit to those of Detectron2's code on scores "
        "that were made distinct in our order of equal ones. ROI heads: "
        f"`fast_rcnn_inference` on {PROPOSALS:,} proposals. RetinaNet: "
        "`inference_single_image` on 57,600 anchors. Score threshold 1e-4, 300 detections. "
        "The scores are drawn: as of a classifier before training, and as of a trained one with "
        "12 objects in the image. Half precision: of a trained one, rounded, so that some of the "
        "best are equal. "
        "Memory: growth of the peak over the call, in a fresh process.",
        command=command,
        repeats=REPEATS,
    )


if __name__ == "__main__":
    main()
