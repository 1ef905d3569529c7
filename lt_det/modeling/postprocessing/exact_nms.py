"""Non-maximum suppression of many classes that stops when enough detections are found.

Detectron2 suppresses among all candidates, then keeps the best few. Suppression only comes from
better candidates of the same class, so here candidates are taken block by block in the order of
their scores until enough have survived. The result is Detectron2's to the last bit:

- Detectron2 (torchvision) shifts the classes apart where candidates are few and goes class by
  class where they are many; the two round differently. Where it changes over is probed, see
  :mod:`~lt_det.modeling.postprocessing.nms_probe`. Few candidates are left to it; many are done
  here.
- Of candidates with equal scores the first suppresses the later ones, in torchvision and here.
  But in which order torchvision returns survivors of equal scores depends on all survivors: its
  last sort is not stable, and where it swaps depends on every score. Where two of the best
  survivors have equal scores, all candidates are taken, as Detectron2 does: a few times faster
  than Detectron2, not a hundred times. The log says so once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from detectron2.layers import batched_nms
from torch import Tensor
from torchvision.ops import nms

from lt_det.data.warn_once import warn_once

#: positions of candidates (n,) int64 -> their classes (n,) int64
ClassesOf = Callable[[Tensor], Tensor]
#: positions of candidates (n,) int64 -> their boxes (n, 4), xyxy
BoxesOf = Callable[[Tensor], Tensor]

_FIRST_BLOCK = 1024
# What bounds the memory, whatever the number of candidates.
_LARGEST_BLOCK = 2**16
_PIECE = 2**18
_GROUP = 64


@dataclasses.dataclass(frozen=True)
class Suppression:
    """How the installed ``batched_nms`` suppresses on a device.

    Attributes:
        switch: it goes class by class where there are more candidates than this; None: never.
        stable: of equal scores in a class, the first candidate wins.
    """

    switch: int | None
    stable: bool


def batched_nms_best(
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    limit: int,
    classes_of: ClassesOf,
    boxes_of: BoxesOf,
    suppression: Suppression,
    log_ties: bool = True,
) -> Tensor:
    """Return the positions of the best survivors of class-by-class suppression.

    Equal to Detectron2's ``batched_nms`` on all candidates, cut after ``limit``. Memory: a few
    times that of ``scores``, however many are candidates. Where equal scores make it find all
    survivors, they take 24 bytes each.

    Args:
        scores: ``(S,)`` float, finite.
        score_threshold: candidates are the positions with a higher score.
        iou_threshold: a box that overlaps a better one of its class by more is suppressed.
        limit: number of survivors wanted; negative: all.
        classes_of: gives the classes of positions in ``scores``.
        boxes_of: gives the boxes of positions in ``scores``.
        suppression: what ``batched_nms`` does on the device of the scores, see
            :func:`~lt_det.modeling.postprocessing.nms_probe.suppression_of`.
        log_ties: warn once where equal scores leave the fast path.

    Returns:
        ``(n,)`` int64 positions in ``scores``, best first.
    """
    is_candidate = scores > score_threshold
    num_candidates = int(torch.count_nonzero(is_candidate))
    if suppression.switch is None or num_candidates <= suppression.switch:
        positions = is_candidate.nonzero()[:, 0]
        keep = batched_nms(
            boxes_of(positions), scores[positions], classes_of(positions), iou_threshold
        )
        return positions[keep[: limit if limit >= 0 else None]]
    if limit == 0:
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    survivors = None
    if 0 < limit < num_candidates:
        survivors = _settled_survivors(
            scores,
            num_candidates,
            iou_threshold=iou_threshold,
            limit=limit,
            classes_of=classes_of,
            boxes_of=boxes_of,
            stable=suppression.stable,
        )
        if survivors is None and log_ties:
            warn_once(
                f"Two of the best {limit} detections have equal scores (half precision, or scores "
                "that round to 1?): in which order Detectron2 returns them depends on all "
                "candidates, so all are suppressed, which is slow with many classes"
            )
    if survivors is None:
        survivors = _all_survivors(
            scores,
            is_candidate,
            limit=limit,
            iou_threshold=iou_threshold,
            classes_of=classes_of,
            boxes_of=boxes_of,
        )
    return survivors


def _settled_survivors(
    scores: Tensor,
    num_candidates: int,
    *,
    iou_threshold: float,
    limit: int,
    classes_of: ClassesOf,
    boxes_of: BoxesOf,
    stable: bool,
) -> Tensor | None:
    """Return the best ``limit`` survivors; None where equal scores leave their order open."""
    kept = torch.zeros(0, dtype=torch.int64, device=scores.device)
    first = min(max(_FIRST_BLOCK, 2 * limit), _LARGEST_BLOCK)
    for block in _blocks_by_score(scores, num_candidates, first=first):
        # What is kept suppresses nothing of itself and is better than the block: it stays.
        positions = torch.cat([kept, block])
        survives, has_ties = _survive(
            boxes_of(positions).float(),
            scores[positions],
            classes_of(positions),
            iou_threshold,
            num_kept=len(kept),
        )
        if has_ties and not stable:
            return None
        kept = positions[survives]
        # One more than wanted tells whether the last one has its score to itself.
        if len(kept) > limit:
            break
    best = scores[kept[: limit + 1]]
    if bool((best[1:] == best[:-1]).any()):
        return None
    return kept[:limit]


def _blocks_by_score(scores: Tensor, num_candidates: int, *, first: int) -> Iterator[Tensor]:
    """Yield the candidates' positions by falling score, of equal ones by position, in blocks."""
    remaining, size, left = num_candidates, first, scores.detach()
    while remaining:
        size = min(size, remaining)
        contenders = _contenders(left, size)
        values = left[contenders]
        best, order = values.topk(size)
        better = order[best > best[-1]]
        # topk takes any of the last score; the first ones are wanted.
        last = (values == best[-1]).nonzero()[: size - len(better), 0]
        order = torch.cat([better, last]).sort()[0]
        positions = contenders[order[values[order].sort(descending=True, stable=True)[1]]]
        yield positions
        left = left.index_fill(0, positions, -torch.inf)
        remaining -= size
        size = min(4 * size, _LARGEST_BLOCK)


def _contenders(scores: Tensor, size: int) -> Tensor:
    """Return positions, rising, of at least the best ``size`` scores and all equal to the last.

    topk on a million scores takes half of the time. Here it gets the best of each group first:
    the worst of the ``size`` best groups' best is a floor for what is wanted.
    """
    num_groups = len(scores) // _GROUP
    rest = torch.arange(num_groups * _GROUP, len(scores), device=scores.device)
    if num_groups < 4 * size:
        return torch.arange(len(scores), device=scores.device)
    best = scores[: num_groups * _GROUP].view(num_groups, _GROUP).amax(dim=1)
    floor = best.topk(size)[0][-1]
    groups = (best >= floor).nonzero()
    members = groups * _GROUP + torch.arange(_GROUP, device=scores.device)
    positions = torch.cat([members.reshape(-1), rest])
    return positions[scores[positions] >= floor]


def _survive(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, *, num_kept: int
) -> tuple[Tensor, bool]:
    """Return which candidates survive, and whether scores are equal within a class.

    Args:
        boxes: ``(n, 4)``, best first.
        scores: ``(n,)``.
        classes: ``(n,)``.
        iou_threshold: see :func:`batched_nms_best`.
        num_kept: the first so many are known to survive.

    Returns:
        ``(n,)`` bool, and a bool.
    """
    classes, order, ends = _by_class(classes)
    boxes, scores = boxes[order], scores[order]
    has_ties = bool(((classes[1:] == classes[:-1]) & (scores[1:] == scores[:-1])).any())
    survives = torch.ones_like(order, dtype=torch.bool)
    # The worst of a class comes last: is it new?
    is_new = (order[ends - 1] >= num_kept).tolist()
    start = 0
    for end, new in zip(ends.tolist(), is_new):
        if new and end - start > 1:
            keep = nms(boxes[start:end], scores[start:end], iou_threshold)
            if len(keep) < end - start:
                survives[start:end] = False
                survives[start:end][keep] = True
        start = end
    return torch.empty_like(survives).scatter_(0, order, survives), has_ties


def _all_survivors(
    scores: Tensor,
    is_candidate: Tensor,
    *,
    limit: int,
    iou_threshold: float,
    classes_of: ClassesOf,
    boxes_of: BoxesOf,
) -> Tensor:
    """Return the best ``limit`` of all survivors (negative: all), best first, as torchvision does.

    A few classes at a time: besides ``scores``, only survivors take memory, while they are sorted.
    """
    survives = torch.zeros_like(is_candidate)
    for positions in _some_classes_at_a_time(is_candidate, classes_of=classes_of):
        _, order, ends = _by_class(classes_of(positions))
        start = 0
        for end in ends.tolist():
            candidates = positions[order[start:end]]
            keep = nms(boxes_of(candidates).float(), scores[candidates], iou_threshold)
            survives[candidates[keep]] = True
            start = end
    kept = survives.nonzero()[:, 0]
    # Not stable, and that on purpose: the same call on the same scores as torchvision's.
    return kept[scores[kept].sort(descending=True)[1][slice(limit if limit >= 0 else None)]]


def _some_classes_at_a_time(is_candidate: Tensor, *, classes_of: ClassesOf) -> Iterator[Tensor]:
    """Yield the positions, rising, of all candidates of some classes, then of the next classes."""

    def pieces() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(is_candidate), _PIECE):
            positions = is_candidate[start : start + _PIECE].nonzero()[:, 0] + start
            yield positions, classes_of(positions)

    counts = torch.zeros(0, dtype=torch.int64, device=is_candidate.device)
    for _, classes in pieces():
        found = torch.bincount(classes, minlength=len(counts))
        counts = torch.nn.functional.pad(counts, (0, len(found) - len(counts))) + found
    # Every turn reads all positions: not more than eight turns.
    at_a_time = max(_PIECE, len(is_candidate) // 8)
    turn_of = torch.div(counts.cumsum(0) - counts, at_a_time, rounding_mode="floor")
    for turn in turn_of.unique().tolist():
        yield torch.cat([positions[turn_of[classes] == turn] for positions, classes in pieces()])


def _by_class(classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sorted classes, the (stable) order that sorts them, and each class's end."""
    classes, order = classes.sort(stable=True)
    counts = torch.unique_consecutive(classes, return_counts=True)[1]
    return classes, order, counts.cumsum(0)
