"""Divide the softmax scores of foreground classes by their counts: NorCal.

Pan et al., "On Model Calibration for Long-Tailed Object Detection and Instance Segmentation",
NeurIPS 2021, arXiv:2107.02170; release tydpan/NorCal.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lt_det.losses.checks import check_class_counts
from lt_det.modeling.calibration.affine import Affine, check_strength

NorcalCounts = Literal["power", "effective"]


def norcal(class_counts: Tensor, *, gamma: float, counts: NorcalCounts = "power") -> Affine:
    """Return the map that turns softmax scores into NorCal's, ``z_k -> z_k - log a_k``.

    NorCal's scores are ``p_k = (e^z_k / a_k) / (sum_j e^z_j / a_j + e^z_bg)`` with
    ``a_k = n_k^gamma`` ("power", METHOD "gamma" of the release) or
    ``(1 - gamma^n_k) / (1 - gamma)`` ("effective", METHOD "cb"). Dividing by ``a_k`` and
    renormalising with the background is a shift of the foreground logits before the softmax, to
    the last digit in exact arithmetic: the map is affine, scale 1, and the background is not
    touched. "exps" and "probs" of the release's modes are both this; its mode "logits", which
    multiplies the logits, is another rule and not here.

    Unlike logit adjustment the shift is not centred: with counts above 1 all foreground loses
    against the background, the rare least. Without a background (image classifiers) both give the
    same scores. The release exponentiates without taking the maximum out; here nothing overflows.
    For sigmoid heads it is not defined: logit adjustment is the same shift of the odds.
    gamma 0 is the identity.

    Args:
        class_counts: ``(K,)`` training images of the foreground classes (the release counts
            images), positive.
        gamma: exponent, 0.6 in the paper for LVIS v1; for "effective" below 1.
        counts: "power" or "effective".

    Raises:
        ValueError: if gamma is out of its range, a count is not positive and finite, or ``counts``
            is unknown.
    """
    check_strength(gamma, name="gamma")
    if counts not in ("power", "effective"):
        raise ValueError(f"counts must be 'power' or 'effective', got {counts!r}")
    check_class_counts(class_counts.cpu(), num_columns=class_counts.numel())
    numbers = class_counts.double().cpu()
    if counts == "power":
        divisor = gamma * numbers.log()
    elif gamma < 1:
        divisor = ((1 - gamma**numbers) / (1 - gamma)).log()
    else:
        raise ValueError(f"gamma must be below 1 with counts 'effective', got {gamma}")
    return Affine(torch.ones_like(numbers), -divisor)
