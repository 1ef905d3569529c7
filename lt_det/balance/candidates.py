"""Name what is tried: the model as trained, calibrations, classifiers to train, and limits.

Shape shorthand: K classes, C columns of a classifier, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lt_det.balance.replay import Classifiers, PostProcessing
from lt_det.losses import LOSSES, PLAIN_LOSS, get_loss
from lt_det.modeling.classifiers.posthoc import prior_adjusted

#: From simple to complicated; where nothing more can be shown, the simpler one is taken.
LEVELS = ("as trained", "post-processing", "calibration", "loss", "meta")


@dataclass(frozen=True)
class Candidate:
    """Classifiers to evaluate.

    Attributes:
        name: of its row in the table, and of its files.
        level: one of :data:`LEVELS` but "post-processing".
        classifiers: for each stage.
        settings: for the table.
    """

    name: str
    level: str
    classifiers: Classifiers = field(repr=False, compare=False)
    settings: str = ""


@dataclass(frozen=True)
class Recipe:
    """A classifier to train.

    Attributes:
        name: of its row in the table, and of its files.
        level: "loss" or "meta".
        options: config keys and values.
    """

    name: str
    level: str
    options: tuple[str, ...]


def settings_to_try(
    own: PostProcessing, *, score_thresholds: Iterable[float], nms_thresholds: Iterable[float]
) -> list[PostProcessing]:
    """Return the detector's own limits, then all other combinations with them."""
    scores = sorted({own.score_threshold, *score_thresholds})
    overlaps = sorted({own.nms_threshold, *nms_thresholds})
    every = [PostProcessing(score, overlap) for overlap in overlaps for score in scores]
    return [own, *(setting for setting in every if setting != own)]


def calibrations(
    own: Classifiers,
    class_counts: Tensor,
    *,
    logit_adjustment: Iterable[float],
    tau_norm: Iterable[float],
) -> list[Candidate]:
    """Return the classifiers with corrections folded into their weights.

    Args:
        own: as trained.
        class_counts: ``(K,)`` of the training set, positive.
        logit_adjustment: taus, see :func:`~lt_det.modeling.classifiers.posthoc.prior_adjusted`.
        tau_norm: taus, see :func:`~lt_det.modeling.classifiers.posthoc.tau_normalised`.
    """
    k = len(class_counts)
    found = []
    for tau in logit_adjustment:
        shift = prior_adjusted(torch.zeros(1, k, dtype=torch.float64), class_counts, tau=tau)[0]
        ones = torch.ones(k)
        folded = [folded_classifier(w, b, scale=ones, shift=shift) for w, b in own]
        found.append(Candidate(f"logit adjustment {tau:g}", "calibration", folded, f"tau {tau:g}"))
    for tau in tau_norm:
        folded = []
        for weight, bias in own:
            norms = weight[:k].double().norm(dim=1)
            scale = torch.where(norms > 0, norms.mean() / norms.clamp(min=1e-30), 0.0) ** tau
            folded.append(
                folded_classifier(
                    weight, bias, scale=scale, shift=bias[:k].mean() - scale * bias[:k]
                )
            )
        found.append(Candidate(f"tau-norm {tau:g}", "calibration", folded, f"tau {tau:g}"))
    return found


def folded_classifier(
    weight: Tensor, bias: Tensor, *, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the classifier whose first K logits are ``scale * z + shift``; others stay.

    Args:
        weight: ``(C, D)``.
        bias: ``(C,)``.
        scale: ``(K,)``.
        shift: ``(K,)``.
    """
    k = len(scale)
    new_weight, new_bias = weight.clone(), bias.clone()
    new_weight[:k] = (scale.double()[:, None] * weight[:k].double()).to(weight.dtype)
    new_bias[:k] = (scale.double() * bias[:k].double() + shift.double()).to(bias.dtype)
    return new_weight, new_bias


def recipes(kind: str, *, losses: Sequence[str] = (), tau: Iterable[float] = ()) -> list[Recipe]:
    """Return the classifiers to train.

    Args:
        kind: "softmax" or "sigmoid", of the detector's classifier.
        losses: names of losses; empty takes all that apply.
        tau: of the losses that take out the prior, beside their own.

    Raises:
        KeyError: if there is no such loss.
        ValueError: if a loss is of the other kind.
    """
    for name in losses:
        if get_loss(name).kind != kind:
            raise ValueError(
                f"--add {name}: it is of kind {get_loss(name).kind!r}, and the classifier of the "
                f"detector is of kind {kind!r}; lt_det.list_losses(kind={kind!r}) names those that "
                "apply"
            )
    names = list(losses) or [
        name for name, spec in LOSSES.items() if spec.kind == kind and not spec.wants_cosine
    ]
    found = [Recipe(name, "loss", ("LT_DET.LOSS", name)) for name in names]
    corrected = [name for name in names if LOSSES[name].takes_out_prior]
    found += [
        Recipe(
            f"{name} tau {value:g}",
            "loss",
            ("LT_DET.LOSS", name, f"LT_DET.LOSS_PARAMS.{name.upper()}.TAU", str(float(value))),
        )
        for name in corrected
        for value in tau
        if "tau" in LOSSES[name].defaults and value != LOSSES[name].defaults["tau"]
    ]
    if losses:
        return found
    plain = PLAIN_LOSS[kind]
    for sampler in ("class_balanced", "square_root", "repeat_factor"):
        options = ("LT_DET.LOSS", plain, "LT_DET.SAMPLER.NAME", sampler)
        found.append(Recipe(f"{plain}, sampler {sampler}", "loss", options))
    for weights in ("effective_number", "inverse_frequency"):
        options = ("LT_DET.LOSS", plain, "LT_DET.CLASS_WEIGHTS.NAME", weights)
        found.append(Recipe(f"{plain}, weights {weights}", "loss", options))
    found += [
        Recipe(
            f"{name}, Meta Reweighter",
            "meta",
            ("LT_DET.LOSS", name, "LT_DET.META.ENABLED", "True"),
        )
        for name in corrected
        if name in ("balanced_softmax", "balanced_sigmoid")
    ]
    return found
