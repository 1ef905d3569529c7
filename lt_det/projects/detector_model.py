"""Network of a detector: its start weights, classes, masks and anchors."""

from __future__ import annotations

from collections.abc import Sequence

from lt_det.projects.facts import DetectionFacts
from lt_det.projects.machine import Machine
from lt_det.projects.recipe import Setting
from lt_det.projects.start_weights import StartWeights


def is_small(start: StartWeights, machine: Machine) -> bool:
    """Return whether the network is the small one for a CPU."""
    return start.model == "lite0" and machine.device == "cpu"


def base_config(start: StartWeights, machine: Machine) -> str:
    """Return the name of the config of the network in ``_base_``."""
    return "model_demo.yaml" if is_small(start, machine) else "model_mask_rcnn_R50_FPN.yaml"


def model_settings(
    facts: DetectionFacts, start: StartWeights, machine: Machine, *, masks: bool, masks_reason: str
) -> Sequence[Setting | None]:
    """Return MODEL, its start weights and what is evaluated of it."""
    number = facts.stats.num_classes
    timm = start.kind != "coco" and not is_small(start, machine)
    federated = facts.federated
    return [
        Setting("MODEL.DEVICE", machine.device, str(machine)),
        Setting("MODEL.WEIGHTS", start.weights, start.reason),
        Setting("LT_DET.START_CLASSES", start.classes, "classes of these weights: rows of the "
                "classifier of equal names are kept, the others start anew")
        if start.classes else None,
        *(_timm(start) if timm else ()),
        Setting("LT_DET.TIMM.WEIGHTS", start.timm, start.reason)
        if start.kind != "coco" and not timm else None,
        Setting("MODEL.MASK_ON", masks, masks_reason),
        Setting("INPUT.MASK_FORMAT", "bitmask" if facts.masks == "bitmask" else "polygon",
                "some masks are run-length encoded" if facts.masks == "bitmask"
                else "all masks are polygons") if masks else None,
        Setting("MODEL.ROI_HEADS.NUM_CLASSES", number,
                "classes of the training set; without this line it is counted at the start"),
        Setting("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0001,
                "AP counts low scores, too; for pictures set a higher one"),
        Setting("TEST.DETECTIONS_PER_IMAGE", 300 if federated else 100,
                "LVIS's rule" if federated else "COCO's rule"),
    ]  # fmt: skip


def _timm(start: StartWeights) -> Sequence[Setting]:
    lite0 = start.model == "lite0"
    mean, std = (
        ([127.0] * 3, [128.0] * 3)
        if lite0
        else ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )
    name = "tf_efficientnet_lite0" if lite0 else "resnet50"
    return [
        Setting("MODEL.BACKBONE.NAME", "build_lt_det_timm_fpn_backbone", "timm's, with a pyramid"),
        Setting("LT_DET.TIMM.NAME", name, "network of the weights"),
        Setting("LT_DET.TIMM.WEIGHTS", start.timm, start.reason),
        Setting("MODEL.PIXEL_MEAN", mean, "as these weights were trained"),
        Setting("MODEL.PIXEL_STD", std, "likewise"),
        Setting("INPUT.FORMAT", "RGB", "likewise"),
    ]


def anchor_settings(start: StartWeights, machine: Machine, size: int) -> Sequence[Setting]:
    """Return the sizes of anchors for a shorter side of the input; [] where weights have theirs."""
    if not is_small(start, machine):
        return []  # pre-trained RPNs have them; 32 to 512
    sides = [[max(8, round(size * share))] for share in (1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3)]
    return [
        Setting("MODEL.ANCHOR_GENERATOR.SIZES", sides, "1/12 to 2/3 of the shorter side of the "
                "input")
    ]  # fmt: skip
