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
    scales: bool = True,
) -> list[Candidate]:
    """Return the classifiers with corrections folded into their weights.

    Args:
        own: as trained.
        class_counts: ``(K,)`` of the training set, positive.
        kind: "softmax" or "sigmoid"; NorCal, FRACAL and LogN are for the former. NorCal is the
            logit adjustment where there is no background, and left out there.
        fractal: ``(K,)`` dimensions and the number of training images, for FRACAL; None leaves it
            out.
        moments: of the logits of each stage on training regions, for LogN; empty leaves it out.
        scales: whether the logits go with the length of the weights: not those of a cosine.
    """
    k = len(class_counts)
    background = len(own[0][0]) > k
    found = []

    def add(name: str, settings: str, of_stages: Sequence[Affine]) -> None:
        folded = [
            folded_parameters(weight, bias, of_stage, background=background)
            for of_stage, (weight, bias) in zip(of_stages, own)
        ]
        found.append(Candidate(f"{name} {settings}".strip(), "calibration", folded, settings))

    if moments:
        add("LogN", "", [logn(m.mean[:k], m.variance[:k]) for m in moments])
        return found
    for tau in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, *(() if background else (2.0,))):
        shift = logit_adjustment(class_counts, tau=tau)
        add("logit adjustment", f"tau {tau:g}", [shift] * len(own))
    for tau in (0.25, 0.5, 0.75, 1.0) if scales else ():
        scaled = [tau_norm(_layer(parameters), num_classes=k, tau=tau) for parameters in own]
        add("tau-norm", f"tau {tau:g}", scaled)
    for gamma in (0.2, 0.4, 0.6, 0.8, 1.0) if kind == "softmax" and background else ():
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


@dataclass(frozen=True)
class Fitting:
    """Which losses give a classifier of the columns and scores that the model has.

    Attributes:
        kind: "softmax" or "sigmoid".
        scoring: of the model, as :meth:`LossSpec.scoring` names it.
        background: whether there is one.
        cosine: whether the classifier is a cosine.
    """

    kind: str
    scoring: str
    background: bool = True
    cosine: bool = False

    def why_not(self, spec: LossSpec) -> str:
        """Return why a classifier of a loss cannot take the place of the model's; "" if it can."""
        columns = spec.extra_columns(background=self.background, **spec.defaults)
        usual = ("background",) if self.background and self.kind == "softmax" else ()
        if spec.kind != self.kind:
            return f"it is of kind {spec.kind!r}, the classifier of kind {self.kind!r}"
        if columns != usual:
            return f"column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"
        if spec.scoring(background=self.background) != self.scoring:
            return f"scores by {spec.scoring(background=self.background)}, not {self.scoring}"
        return ""

    def note(self) -> str:
        """Return which losses of the kind are not tried, and why; "" for none."""
        reasons: dict[str, list[str]] = {}
        for name, spec in LOSSES.items():
            if spec.kind != self.kind:
                continue
            why = self.why_not(spec)
            if not why and spec.wants_cosine and not self.cosine:
                why = "meant for cosine classifiers, --add tries it"
            if why:
                reasons.setdefault(why, []).append(name)
        if not reasons:
            return ""
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        return (
            f"Losses that are not tried: {listed}. A plain checkpoint has no place for other "
            "columns or scores."
        )


def recipes(
    fitting: Fitting, *, losses: Sequence[str] = (), tau: Iterable[float] = ()
) -> list[Recipe]:
    """Return the classifiers to train.

    Args:
        fitting: what the model asks of a loss.
        losses: names of losses; empty takes all that apply.
        tau: of the losses that take out the prior, beside their own.

    Raises:
        KeyError: if there is no such loss.
        ValueError: if a loss is of the other kind, or has other columns or scores.
    """
    for name in losses:
        why = fitting.why_not(get_loss(name))
        if why and get_loss(name).kind != fitting.kind:
            raise ValueError(
                f"--add {name}: {why}; lt_det.list_losses(kind={fitting.kind!r}) names those that "
                "apply"
            )
        if why:
            raise ValueError(
                f"--add {name}: {why}: a plain checkpoint has no place for that; train it as a "
                "second stage"
            )
    names = list(losses) or [
        name
        for name, spec in LOSSES.items()
        if not fitting.why_not(spec) and (fitting.cosine or not spec.wants_cosine)
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
    plain = PLAIN_LOSS[fitting.kind]
    if losses or plain not in names:
        return found
    for sampler in ("class_balanced", "square_root", "repeat_factor"):
        options = ("LT_DET.LOSS", plain, "LT_DET.SAMPLER.NAME", sampler)
        found.append(Recipe(f"{plain}, sampler {sampler}", "loss", options))
    for weights in ("effective_number", "inverse_frequency"):
        options = ("LT_DET.LOSS", plain, "LT_DET.CLASS_WEIGHTS.NAME", weights)
        found.append(Recipe(f"{plain}, weights {weights}", "loss", options))
    # The Meta Sampler draws images, and so classes where an image has one only.
    learners = ("reweighter",) if fitting.background else ("reweighter", "sampler")
    found += [
        Recipe(
            f"{name}, Meta {learner.title()}",
            "meta",
            ("LT_DET.LOSS", name, "LT_DET.META.ENABLED", "True", "LT_DET.META.METHOD", learner),
        )
        for name in corrected
        for learner in learners
        if name in ("balanced_softmax", "balanced_sigmoid")
    ]
    return found
