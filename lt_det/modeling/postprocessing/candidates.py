"""Candidates for detections, the best of many scores in a fixed order.

Shape shorthand: R regions, K classes, n candidates.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

# So many scores are sorted as they are.
_FEW = 2**17
# Consecutive classes that are first looked at by their best.
_GROUP = 64


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Scores by their region and class, best first.

    Attributes:
        scores: ``(n,)`` float.
        regions: ``(n,)`` int64 in [0, R).
        classes: ``(n,)`` int64 in [0, K).
    """

    scores: Tensor
    regions: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, index: Tensor | slice) -> Candidates:
        """Return some of them."""
        return Candidates(self.scores[index], self.regions[index], self.classes[index])

    def first(self, number: int) -> Candidates:
        """Return the best so many, or all if there are fewer."""
        return self.at(slice(number))


def best_candidates(scores: Tensor, number: int) -> Candidates:
    """Return the best scores: falling; of equal ones lower region first, then lower class.

    Nothing here waits for a GPU. Regions, then groups of classes, are chosen by their best score
    first: what is among the best ``number`` scores lies in the best ``number`` of either, with
    the lower one first among equals there too. So all scores are read once, and few are sorted.

    Args:
        scores: ``(R, K)`` float, up to 32 bits a score. NaN counts as +inf, so that it is seen.
        number: how many are wanted; all, if there are fewer.
    """
    number = min(number, scores.numel())
    values = scores.detach()
    regions = members = None
    if values.numel() > _FEW and len(values) > number:
        regions = _best(values.amax(dim=1), number).sort()[0]
        values = values[regions]
    width = values.shape[1]
    groups_a_region = -(-width // _GROUP)
    if values.numel() > _FEW and len(values) * groups_a_region > number:
        width = groups_a_region * _GROUP
        missing = width - values.shape[1]
        values = F.pad(values, (0, missing), value=-torch.inf).view(-1, _GROUP)
        groups = _best(values.amax(dim=1), number).sort()[0]
        values = values[groups]
        members = groups[:, None] * _GROUP + torch.arange(_GROUP, device=groups.device)
    found = _best(values.reshape(-1), number)
    if members is not None:
        found = members.reshape(-1)[found]
    rows = torch.div(found, max(width, 1), rounding_mode="floor")
    # Padding comes after all scores, except where some are -inf.
    classes = (found % max(width, 1)).clamp_(max=scores.shape[1] - 1)
    rows = rows if regions is None else regions[rows]
    return Candidates(scores[rows, classes], rows, classes)


def _best(values: Tensor, number: int) -> Tensor:
    """Return the indices of the best of ``values`` ``(n,)``; of equal ones the first come first.

    ``topk`` and ``sort`` give equal values no order, and the stable sort is ten times slower. So
    value and index become one whole number.
    """
    values = torch.nan_to_num(values.float(), nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bits = (values + 0.0).view(torch.int32).long()  # + 0.0: -0.0 equals 0.0
    bits ^= (bits >> 63) & 0x7FFFFFFF  # the bits of negative floats rise as these fall
    keys = (bits << 32) - torch.arange(len(values), device=values.device)
    return keys.topk(min(number, len(keys)))[1]
