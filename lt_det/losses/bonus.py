"""Bonus of the Eureka loss: a negative term that falls with the probability p.

Sources: OpenReview 7Yhok3vJpU, Eq. 8, 10 and 11; the conservative bonus is of its successor,
"Well-classified Examples are Underestimated" (AAAI 2022).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.margin import check_open_unit, logit

Bonus = Literal["log", "conservative", "power", "simplified"]


def bonus_of_margin(
    margin: Tensor,
    *,
    bonus: Bonus = "log",
    log_end: float = 0.75,
    power: float = 4.0,
    phi: float = 0.5,
    clamp_eps: float = 1e-5,
) -> Tensor:
    """Return the term that is added to the loss: at most 0, falling with p.

    Args:
        margin: logit of the probability p of the correct label, any shape.
        bonus: "log": ``log(1 - p)`` (Eq. 8). "conservative": its tangent beyond ``log_end``, so
            that it is bounded. "power": ``-p^power`` (Eq. 10). "simplified": ``log(1 - p) -
            log(1 - phi)`` beyond ``phi``, else 0 (Eq. 11).
        log_end: in (0, 1), of "conservative".
        power: above 0, of "power".
        phi: in (0, 1), of "simplified".
        clamp_eps: the logarithms take ``max(1 - p, clamp_eps)``: beyond, the bonus is constant
            and has no gradient, as in the release. 0 is no clamp: then the gradient by the margin
            never ends, and training can diverge. "power" has no logarithm.

    Raises:
        ValueError: if a parameter is out of range.
    """
    if not 0.0 <= clamp_eps < 1.0:
        raise ValueError(f"clamp_eps must be in [0, 1), got {clamp_eps}")
    if bonus == "power":
        if power <= 0:
            raise ValueError(f"power must be above 0, got {power}")
        return -torch.exp(-power * F.softplus(-margin))
    log_wrong = -F.softplus(margin)
    lowest = math.log(clamp_eps) if clamp_eps else -math.inf
    if bonus == "log":
        return log_wrong.clamp(min=lowest)
    if bonus == "conservative":
        check_open_unit("log_end", log_end)
        tangent = math.log1p(-log_end) - (torch.sigmoid(margin) - log_end) / (1 - log_end)
        # The tangent falls by 1 more: the clamp is reached for ends above 1 - 2.7 clamp_eps only.
        return torch.where(margin <= logit(log_end), log_wrong, tangent).clamp(min=lowest)
    if bonus == "simplified":
        check_open_unit("phi", phi)
        beyond = log_wrong.clamp(min=lowest) - max(math.log1p(-phi), lowest)
        return torch.where(margin > logit(phi), beyond, torch.zeros_like(margin))
    raise ValueError(f"bonus must be 'log', 'conservative', 'power' or 'simplified', got {bonus!r}")
