"""Methods that are compared as second stages or corrections of one and the same stage 1.

Strengths are those of the papers or the defaults, never chosen on these images. Thresholds that
are shares of LVIS's training images are moved so that they spare the same groups of classes here:
on LVIS all rare and common ones, which is 100 of the demo's 1,311 images.
"""

from __future__ import annotations

from dataclasses import dataclass

# Shares of training images below which a class is spared: above 100 of 1,311, below 101.
_TAIL = "0.0767"


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: in tables and files.
        group: heading in the table.
        options: config keys and values of a second stage; () for a correction.
        correction: name of a candidate of :func:`lt_det.balancing.candidates.calibrations`, of the
            plainly fine-tuned classifier; "" for a second stage.
        baseline: name of the method that differs from this one only in the method.
    """

    name: str
    group: str
    options: tuple[str, ...] = ()
    correction: str = ""
    baseline: str = "softmax_ce"


#: As it comes from stage 1, and the methods that differences are taken to.
START, PLAIN, PLAIN_SIGMOID = "stage 1", "softmax_ce", "sigmoid_ce"


def _loss(name: str, group: str, **parameters: str) -> Method:
    options = ["LT_DET.LOSS", name]
    for key, value in parameters.items():
        options += [f"LT_DET.LOSS_PARAMS.{name.upper()}.{key.upper()}", value]
    return Method(name, group, tuple(options))


def _plain(name: str, group: str, *options: str) -> Method:
    return Method(name, group, ("LT_DET.LOSS", PLAIN, *options))


def _meta(loss: str, group: str) -> Method:
    options = ("LT_DET.LOSS", loss, "LT_DET.META.ENABLED", "True")
    return Method(f"{loss} + Meta Reweighter", group, options)


_SOFTMAX, _SIGMOID = "softmax losses", "sigmoid losses"
_SAMPLERS = "samplers and weights, softmax cross-entropy"
_CORRECTIONS = "corrections of (a), nothing trained"

METHODS = (
    _loss(PLAIN, _SOFTMAX),
    _loss("balanced_softmax", _SOFTMAX),
    _meta("balanced_softmax", _SOFTMAX),
    _loss("softmax_equalization", _SOFTMAX, threshold=_TAIL),
    _loss("ldam", _SOFTMAX, scale="1.0"),
    _loss("softmax_focal", _SOFTMAX),
    _loss("softmax_halted_focal", _SOFTMAX),
    _loss("softmax_eureka", _SOFTMAX),
    _loss("seesaw", _SOFTMAX),
    _loss("bags", _SOFTMAX),
    _loss("equilibrium", _SOFTMAX),
    _loss("iif", _SOFTMAX),
    _loss(PLAIN_SIGMOID, _SIGMOID),
    _loss("balanced_sigmoid", _SIGMOID),
    _meta("balanced_sigmoid", _SIGMOID),
    _loss("focal", _SIGMOID),
    _loss("halted_focal", _SIGMOID),
    _loss("eureka", _SIGMOID),
    _loss("fedloss", _SIGMOID),
    _loss("eql", _SIGMOID, threshold=_TAIL),
    _loss("droploss", _SIGMOID, threshold=_TAIL),
    _loss("eqlv2", _SIGMOID),
    _loss("acsl", _SIGMOID),
    _loss("ecm", _SIGMOID),
    _loss("efl", _SIGMOID),
    _loss("gumbel", _SIGMOID),
    _loss("gol", _SIGMOID, threshold=_TAIL),
    *(
        _plain(f"sampler {name}", _SAMPLERS, "LT_DET.SAMPLER.NAME", name, *more)
        for name, more in (
            ("repeat_factor", ("DATALOADER.REPEAT_THRESHOLD", "0.1")),
            ("irfs", ("DATALOADER.REPEAT_THRESHOLD", "0.1")),
            # A tenth of the others', as in its release: its weights are exponential, and at 0.1
            # three images are nearly all that is drawn.
            ("eirfs", ("DATALOADER.REPEAT_THRESHOLD", "0.01")),
            ("square_root", ()),
            ("class_balanced", ()),
            ("class_aware", ()),
        )
    ),
    _plain(
        "cRT", _SAMPLERS, "LT_DET.SAMPLER.NAME", "class_balanced", "LT_DET.RESET_CLASSIFIER", "True"
    ),
    *(
        _plain(f"weights {name}", _SAMPLERS, "LT_DET.CLASS_WEIGHTS.NAME", name)
        for name in ("effective_number", "inverse_frequency")
    ),
    *(
        Method(name, _CORRECTIONS, correction=name)
        for name in (
            "logit adjustment tau 1",
            "tau-norm tau 0.5",
            "tau-norm tau 1",
            "NorCal gamma 0.6",
            "FRACAL strength 2",
            "LogN",
        )
    ),
)
