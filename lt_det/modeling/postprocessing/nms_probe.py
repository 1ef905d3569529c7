"""What Detectron2's ``batched_nms`` does on a device, found out by trying.

It is torchvision's, whose algorithm depends on the number of boxes, the device and the version.
"""

from __future__ import annotations

import functools

import torch
from detectron2.layers import batched_nms
from torch import Tensor

from lt_det.data.warn_once import warn_once
from lt_det.modeling.postprocessing.exact_nms import Suppression, batched_nms_best

# Numbers of boxes up to which a version of torchvision or Detectron2 shifts the classes apart.
_SWITCHES = (1000, 5000, 25_000, 40_000)


def suppression_of(device: torch.device) -> Suppression:
    """Return what ``batched_nms`` does on ``device``; tried out once, in about 0.1 s."""
    return _probe(str(device))


@functools.cache
def _probe(device: str) -> Suppression:
    for switch in _SWITCHES:
        if not _shifts_classes(switch + 1, device):
            # Equal scores on a GPU: in whatever order its sort happens to give.
            suppression = Suppression(switch, stable=device == "cpu")
            if _agrees(suppression, device):
                return suppression
            break
    warn_once(
        f"detectron2.layers.batched_nms works in an unknown way on {device} (another version of "
        "torchvision?): detections are suppressed by it, among all candidates, which is slow "
        "with many classes"
    )
    return Suppression(None, stable=False)


def _shifts_classes(num_boxes: int, device: str) -> bool:
    """Return whether ``batched_nms`` shifts classes apart for so many boxes.

    Class 0 reaches out to 2^25, where float32 knows multiples of 4 only: shifted that far, two
    boxes of class 1 overlap more than they do.
    """
    # float32 whatever the default: these are the dtypes that models give.
    boxes = torch.zeros(num_boxes, 4, device=device, dtype=torch.float32)
    boxes[:, 2:] = 2.0**25
    boxes[-2:, 2:] = 8.0
    boxes[-1, 3] = 2.9  # IoU 0.36; shifted 0.5
    scores = torch.linspace(1, 0.5, num_boxes, device=device, dtype=torch.float32)
    classes = torch.zeros(num_boxes, dtype=torch.int64, device=device)
    classes[-2:] = 1
    keep = batched_nms(boxes, scores, classes, 0.4)
    return bool((keep != num_boxes - 1).all())


def _agrees(suppression: Suppression, device: str) -> bool:
    """Return whether a trial with equal scores gives what ``batched_nms`` gives."""
    assert suppression.switch is not None
    num_boxes, generator = suppression.switch + 100, torch.Generator().manual_seed(0)
    boxes = _uniform((num_boxes, 4), generator).to(device) * 100
    boxes[:, 2:] += boxes[:, :2] + 20
    classes = torch.randint(0, 20, (num_boxes,), generator=generator, device="cpu").to(device)
    levels = _uniform((num_boxes,), generator).to(device)
    for scores in (levels, (levels * 50).round() / 50):
        expected = batched_nms(boxes, scores, classes, 0.5)
        for limit in (-1, 40):
            keep = batched_nms_best(
                scores,
                score_threshold=-1.0,
                iou_threshold=0.5,
                limit=limit,
                classes_of=classes.__getitem__,
                boxes_of=boxes.__getitem__,
                suppression=suppression,
                log_ties=False,
            )
            if not torch.equal(keep, expected[: limit if limit >= 0 else None]):
                return False
    return True


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return draws from [0, 1), the same whatever torch's default dtype and device are."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
