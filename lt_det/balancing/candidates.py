"""Name what is tried: the model as trained, calibrations, classifiers to train, and limits.

Shape shorthand: K classes, C columns of a classifier, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lt_det.balancing.replay import Classifiers, PostProcessing
from lt_det.losses import LOSSES, PLAIN_LOSS, LossSpec, get_loss
from lt_det.modeling.calibration import (
    Affine,
    LogitMoments,
    folded_parameters,
    fracal,
    logit_adjustment,
    logn,
    norcal,
    tau_norm,
)

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
    kind: str,
    fractal: tuple[Tensor, int] | None = None,
    moments: Sequence[LogitMoments] = (),
) -> list[Candidate]:
    """Return the classifiers with corrections folded into their weights.

    Args:
        own: as trained.
        class_counts: ``(K,)`` of the training set, positive.
        kind: "softmax" or "sigmoid"; NorCal, FRACAL and LogN are for the former.
        fractal: ``(K,)`` dimensions and the number of training images, for FRACAL; None leaves it
            out.
        moments: of the logits of each stage on training regions, for LogN; empty leaves it out.
    """
    k = len(class_counts)
    found = []

    def add(name: str, settings: str, of_stages: Sequence[Affine]) -> None:
        folded = [
            folded_parameters(weight, bias, of_stage, background=len(weight) > k)
            for of_stage, (weight, bias) in zip(of_stages, own)
        ]
        found.append(Candidate(f"{name} {settings}".strip(), "calibration", folded, settings))

    if moments:
        add("LogN", "", [logn(m.mean[:k], m.variance[:k]) for m in moments])
        return found
    for tau in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        shift = logit_adjustment(class_counts, tau=tau)
        add("logit adjustment", f"tau {tau:g}", [shift] * len(own))
    for tau in (0.25, 0.5, 0.75, 1.0):
        scaled = [tau_norm(_layer(parameters), num_classes=k, tau=tau) for parameters in own]
        add("tau-norm", f"tau {tau:g}", scaled)
    for gamma in (0.2, 0.4, 0.6, 0.8, 1.0) if kind == "softmax" else ():
        add("NorCal", f"gamma {gamma:g}", [norcal(class_counts, gamma=gamma)] * len(own))
    for strength in (0.0, 1.0, 2.0) if kind == "softmax" and fractal else ():
        assert fractal is not None
        spread = fracal(class_counts, fractal[0], num_images=fractal[1], strength=strength)
        add("FRACAL", f"strength {strength:g}", [spread] * len(own))
    return found


def _layer(parameters: tuple[Tensor, Tensor]) -> nn.Linear:
    weight, bias = parameters
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def is_plain(spec: LossSpec) -> bool:
    """Return whether a classifier of the loss is one of Detectron2: its columns and its scores."""
    return spec.columns is None and spec.scores is None


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
        if not is_plain(get_loss(name)):
            raise ValueError(
                f"--add {name}: plain Detectron2 has neither its columns nor its scores; train it "
                "as a second stage"
            )
    names = list(losses) or [
        name
        for name, spec in LOSSES.items()
        if spec.kind == kind and not spec.wants_cosine and is_plain(spec)
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
