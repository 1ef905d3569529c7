"""Take the class prior out of the logits: post-hoc logit adjustment.

Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv:2007.07314, section 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_det.losses.checks import check_class_counts
from lt_det.modeling.calibration.affine import Affine, check_strength


def logit_adjustment(class_counts: Tensor, *, tau: float) -> Affine:
    """Return the map ``z_k -> z_k - tau log(K pi_k)``, pi the shares of the class counts.

    With tau 1 and a classifier that gives the posterior under pi, the softmax of the foreground is
    the posterior under equal priors. The paper subtracts ``tau log pi_k``: K differs by one number
    for all classes, which leaves a background that is not touched, and sigmoid scores, where they
    were. The release adds 1e-12 to ``pi_k^tau``; here nothing is added. Equal counts, or tau 0,
    are the identity.

    Args:
        class_counts: ``(K,)`` training frequency of the foreground classes, positive.
        tau: factor, at least 0.

    Raises:
        ValueError: if tau is negative, or a count is not positive and finite.
    """
    check_strength(tau, name="tau")
    check_class_counts(class_counts.cpu(), num_columns=class_counts.numel())
    counts = class_counts.double().cpu()
    return Affine(torch.ones_like(counts), -tau * (counts / counts.mean()).log())
