"""Losses: pure functions of logits and labels, and the table that names them.

To add a loss: write its file, then its row in :data:`LOSSES`. From that row come its config keys
with defaults, its place in every head of its kind, and the contract test.
"""

from __future__ import annotations

import difflib
import math

from lt_det.losses import eql, equalization, eureka, halted_focal
from lt_det.losses.acsl import acsl_loss
from lt_det.losses.activations import sigmoid_beside_background, softmax_times_objectness
from lt_det.losses.bags import bags_columns, bags_loss, bags_plain_loss, bags_scores
from lt_det.losses.balanced_sigmoid import balanced_sigmoid_loss
from lt_det.losses.balanced_softmax import balanced_softmax_loss
from lt_det.losses.bonus import bonus_of_margin
from lt_det.losses.cross_entropy import sigmoid_ce_loss, softmax_ce_loss
from lt_det.losses.droploss import drop_loss
from lt_det.losses.ecm import ecm_loss
from lt_det.losses.efl import FocalGradientSums, efl_loss
from lt_det.losses.eql import eql_loss
from lt_det.losses.eqlv2 import WeightedGradientSums, eqlv2_loss
from lt_det.losses.equalization import softmax_equalization_loss
from lt_det.losses.equilibrium import MeanScores, equilibrium_loss
from lt_det.losses.eureka import sigmoid_eureka_loss, softmax_eureka_loss
from lt_det.losses.fedloss import fed_loss
from lt_det.losses.focal import sigmoid_focal_loss, softmax_focal_loss
from lt_det.losses.gol import gol_loss
from lt_det.losses.gumbel import gumbel_logit, gumbel_loss, gumbel_scores
from lt_det.losses.halted_focal import sigmoid_halted_focal_loss, softmax_halted_focal_loss
from lt_det.losses.iif import iif_loss, iif_scores
from lt_det.losses.ldam import ldam_loss
from lt_det.losses.seesaw import SeenLabels, seesaw_loss, seesaw_plain_loss
from lt_det.losses.spec import LossSpec

_EUREKA = "OpenReview 7Yhok3vJpU"

LOSSES: dict[str, LossSpec] = {
    "softmax_ce": LossSpec(softmax_ce_loss, "softmax", "baseline"),
    "sigmoid_ce": LossSpec(sigmoid_ce_loss, "sigmoid", "baseline"),
    "balanced_softmax": LossSpec(
        balanced_softmax_loss, "softmax", "arXiv:2007.10740, Eq. 4", takes_out_prior=True
    ),
    "balanced_sigmoid": LossSpec(
        balanced_sigmoid_loss, "sigmoid", "arXiv:2007.10740, Eq. 36", takes_out_prior=True
    ),
    "ldam": LossSpec(ldam_loss, "softmax", "arXiv:1906.07413, Eq. 13", wants_cosine=True),
    "softmax_equalization": LossSpec(
        softmax_equalization_loss,
        "softmax",
        "arXiv:2003.05176",
        without_effect=equalization.without_effect,
    ),
    "focal": LossSpec(sigmoid_focal_loss, "sigmoid", "arXiv:1708.02002, Eq. 5"),
    "softmax_focal": LossSpec(softmax_focal_loss, "softmax", f"{_EUREKA}, Eq. 5"),
    "halted_focal": LossSpec(
        sigmoid_halted_focal_loss, "sigmoid", f"{_EUREKA}, Eq. 6", hidden_logit=-math.inf
    ),
    "softmax_halted_focal": LossSpec(
        softmax_halted_focal_loss,
        "softmax",
        f"{_EUREKA}, Eq. 6",
        needs_counts=halted_focal.needs_counts,
    ),
    "eureka": LossSpec(
        sigmoid_eureka_loss,
        "sigmoid",
        f"{_EUREKA}, Eq. 7-11",
        hands_on_to=bonus_of_margin,
        needs_counts=eureka.needs_counts,
        weighs_classes_by="beta",
    ),
    "softmax_eureka": LossSpec(
        softmax_eureka_loss,
        "softmax",
        f"{_EUREKA}, Eq. 7-11",
        hands_on_to=bonus_of_margin,
        needs_counts=eureka.needs_counts,
        weighs_classes_by="beta",
    ),
    "fedloss": LossSpec(fed_loss, "sigmoid", "arXiv:2103.07461; Detectron2, CenterNet2"),
    "eqlv2": LossSpec(
        eqlv2_loss,
        "sigmoid",
        "arXiv:2012.08548, Eq. 5-7",
        columns=("background",),
        scores=sigmoid_beside_background,
        plain=sigmoid_ce_loss,
        state=WeightedGradientSums,
    ),
    "seesaw": LossSpec(
        seesaw_loss,
        "softmax",
        "arXiv:2008.10032, Eq. 3-7",
        columns=("object", "background"),
        scores=softmax_times_objectness,
        plain=seesaw_plain_loss,
        state=SeenLabels,
    ),
    "eql": LossSpec(
        eql_loss, "sigmoid", "arXiv:2003.05176, Eq. 2-4", without_effect=eql.without_effect
    ),
    "droploss": LossSpec(
        drop_loss, "sigmoid", "arXiv:2104.06402", without_effect=eql.without_effect
    ),
    "ecm": LossSpec(
        ecm_loss,
        "sigmoid",
        "arXiv:2301.09724",
        takes_out_prior=True,
        columns=("background",),
        scores=sigmoid_beside_background,
        plain=sigmoid_ce_loss,
    ),
    "efl": LossSpec(efl_loss, "sigmoid", "arXiv:2201.02593, Eq. 4-6", state=FocalGradientSums),
    "gumbel": LossSpec(
        gumbel_loss,
        "sigmoid",
        "arXiv:2207.10936, Eq. 5-8",
        scores=gumbel_scores,
        plain=gumbel_loss,
        logit_of=gumbel_logit,
    ),
    "gol": LossSpec(
        gol_loss,
        "sigmoid",
        "arXiv:2207.10936",
        scores=gumbel_scores,
        plain=gumbel_loss,
        logit_of=gumbel_logit,
    ),
    "acsl": LossSpec(
        acsl_loss,
        "sigmoid",
        "arXiv:2104.00885, Eq. 5-6",
        columns=("background",),
    ),
    "bags": LossSpec(
        bags_loss,
        "softmax",
        "arXiv:2006.10408, Eq. 3-6",
        columns=bags_columns,
        scores=bags_scores,
        plain=bags_plain_loss,
    ),
    "equilibrium": LossSpec(
        equilibrium_loss,
        "softmax",
        "arXiv:2108.07507, Eq. 2-4",
        takes_out_prior=True,
        columns=("background",),
        state=MeanScores,
    ),
    "iif": LossSpec(
        iif_loss,
        "softmax",
        "arXiv:2209.04861",
        columns=("background",),
        scores=iif_scores,
        plain=iif_loss,
        hidden_logit=-math.inf,
    ),
}

#: The loss without any correction, for each kind: the baselines. Of a loss with scores of its own
#: it is ``plain`` of its row.
PLAIN_LOSS = {"softmax": "softmax_ce", "sigmoid": "sigmoid_ce"}


def get_loss(name: str) -> LossSpec:
    """Return the row of the loss table called ``name``.

    Raises:
        KeyError: if there is none; the message lists the names.
    """
    if name not in LOSSES:
        close = difflib.get_close_matches(name, LOSSES, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise KeyError(f"no loss is called {name!r}{hint}; known: {sorted(LOSSES)}")
    return LOSSES[name]


__all__ = [
    "LOSSES",
    "PLAIN_LOSS",
    "LossSpec",
    "balanced_sigmoid_loss",
    "balanced_softmax_loss",
    "eqlv2_loss",
    "fed_loss",
    "acsl_loss",
    "bags_loss",
    "equilibrium_loss",
    "iif_loss",
    "drop_loss",
    "ecm_loss",
    "efl_loss",
    "eql_loss",
    "gol_loss",
    "gumbel_loss",
    "seesaw_loss",
    "get_loss",
    "ldam_loss",
    "sigmoid_ce_loss",
    "sigmoid_eureka_loss",
    "sigmoid_focal_loss",
    "sigmoid_halted_focal_loss",
    "softmax_ce_loss",
    "softmax_equalization_loss",
    "softmax_eureka_loss",
    "softmax_focal_loss",
    "softmax_halted_focal_loss",
]
