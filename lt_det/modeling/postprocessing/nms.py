"""Non-maximum suppression among the best candidates, class by class, without a loop over classes.

Detectron2 (torchvision) suppresses in one of two ways. Few candidates: classes are shifted apart
in float32, which rounds, and all are suppressed in one call. Few are left to it. Many: a call a
class, on exact boxes. Here that is two calls in float64, whose result is proven to be the same:

Let ``S`` be the pairs of boxes of a class that overlap by more than the threshold as float32 has
it. Two more sets of pairs hold by a margin that is wider than all rounding: ``S+``, overlap surely
above the threshold, and ``S-``, not surely below, so that ``S+ <= S <= S-``. The first call keeps
what ``S+`` leaves, and the first of it that are wanted are taken. The second call finds no pair of
``S-`` among these. Then what was suppressed is suppressed by ``S`` too, and what was kept is kept.
If it does find one, torchvision decides, with a call a class.

Shape shorthand: n boxes, best first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from detectron2.layers import batched_nms
from torch import Tensor
from torchvision.ops import nms

from lt_det.modeling.postprocessing.candidates import Candidates

#: number -> the best so many candidates, fewer if there are fewer
Best = Callable[[int], Candidates]
#: candidates -> their boxes (n, 4), xyxy
BoxesOf = Callable[[Candidates], Tensor]

# Overlaps in float32 are wrong by 16 roundings of 2^-24 at most. A shift of up to 2^22 pixels in
# float64 is exact, except for coordinates next to 0: sides are wrong by 2^-30 pixels there, and
# overlaps by 8 times 2^-23 where sides are no smaller than 2^-7. Both, and twice that.
_MARGIN = 2.0**-18
_SMALLEST, _LARGEST = 2.0**-7, 2.0**13
# Classes are shifted along both axes, so that the shifts stay small: so many rows and columns.
_ROWS = 128
# Candidates that are looked at first (on a GPU more are as fast), and the most, before torchvision
# gets all of them.
_FIRST_ON_CPU, _FIRST, _MOST = 2**10, 2**12, 2**14


def best_survivors(
    best: Best,
    boxes_of: BoxesOf,
    *,
    total: int,
    score_threshold: float,
    iou_threshold: float,
    limit: int,
    is_sound: Tensor,
) -> tuple[Candidates, Tensor] | None:
    """Return the best candidates that survive suppression by better ones of their classes.

    Args:
        best: gives the best candidates in their order.
        boxes_of: gives their boxes.
        total: how many ``best`` can give.
        score_threshold: what scores higher is a candidate.
        iou_threshold: a box that overlaps a better one of its class by more is suppressed.
        limit: number of survivors wanted; negative: all.
        is_sound: scalar bool; it is read here, where the device is waited for anyway.

    Returns:
        the survivors, best first, and their boxes ``(n, 4)``; None if not ``is_sound``.
    """
    shifted = most_shifted(is_sound.device)
    size = max(_FIRST_ON_CPU if is_sound.device.type == "cpu" else _FIRST, 2 * limit)
    is_quick = limit >= 0 and iou_threshold >= 2 * _MARGIN
    if limit < 0 or size > _MOST:
        size = total
    while True:
        listed = best(max(size, shifted + 1))
        block = listed.first(min(size, _MOST))
        boxes = boxes_of(block)
        plain = _are_plain(boxes, block.classes)
        facts = [(listed.scores > score_threshold).sum(), plain, is_sound]
        number, plain, is_sound_here = torch.stack([fact.long() for fact in facts]).tolist()
        if not is_sound_here:
            return None
        all_listed = number < len(listed) or len(listed) == total
        keep = None
        if is_quick and plain and number > shifted and size <= _MOST:
            keep = survivors_by_class(boxes[:number], block.classes[:number], iou_threshold, limit)
        if keep is None:
            # All that are listed: if too few to go class by class, then these are all there are.
            block = listed.first(number)
            boxes = boxes_of(block)
            keep = batched_nms(boxes, block.scores.float(), block.classes, iou_threshold)
            keep = keep.sort()[0]  # a survivor's index is its rank, among equals too
        if 0 <= limit <= len(keep) or (all_listed and number <= len(block)):
            keep = keep[: limit if limit >= 0 else None]
            return block.at(keep), boxes[keep]
        size = 4 * size if 4 * size <= _MOST else total


def most_shifted(device: torch.device) -> int:
    """Return up to how many boxes the installed torchvision shifts the classes apart."""
    if device.type == "cpu":
        return 1000
    major, minor = torchvision.__version__.split(".")[:2]
    return 25_000 if (int(major), int(minor)) >= (0, 22) else 5000


def survivors_by_class(
    boxes: Tensor, classes: Tensor, iou_threshold: float, limit: int
) -> Tensor | None:
    """Return the indices of the first that torchvision keeps class by class, rising.

    Args:
        boxes: ``(n, 4)`` float, plain as :func:`_are_plain` has it.
        classes: ``(n,)`` int64.
        iou_threshold: at least twice the margin.
        limit: the first so many are wanted.

    Returns:
        ``(m,)`` int64, m <= ``limit``; None where rounding decides.
    """
    boxes = boxes.detach().float().double()
    # A power of two, and whole numbers of it: the shift rounds next to 0 only.
    distance = torch.exp2(torch.ceil(torch.log2(2 * boxes.abs().max() + 1)))
    column, row = classes % _ROWS, torch.div(classes, _ROWS, rounding_mode="floor")
    boxes = boxes + torch.stack([column, row, column, row], dim=1) * distance
    ranks = -torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    keep = nms(boxes, ranks, iou_threshold + _MARGIN)[:limit]
    again = nms(boxes[keep], ranks[keep], iou_threshold - _MARGIN)
    return keep if len(again) == len(keep) else None


def _are_plain(boxes: Tensor, classes: Tensor) -> Tensor:
    """Return a scalar bool: whether the margin holds for ``boxes`` ``(n, 4)``; False for NaN."""
    boxes = boxes.detach().float()
    sides = boxes[:, 2:] - boxes[:, :2]
    # A negative side overlaps nothing, whatever the rounding.
    narrow = (sides != 0) & (sides.abs() < _SMALLEST)
    near = (boxes != 0) & (boxes.abs() < _SMALLEST)
    exact = ~narrow | ~(near[:, :2] | near[:, 2:])
    return exact.all() & (boxes.abs() <= _LARGEST).all() & (classes < _ROWS**2).all()
