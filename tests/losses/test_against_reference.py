"""Every loss against its scalar re-statement, on random input and for many parameters."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES, get_loss
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from tests.reference import losses as reference

NUM_ROWS, NUM_COLUMNS, NUM_IMAGES = 60, 5, 200
COUNTS = [120.0, 50.0, 50.0, 7.0, 1.0]

FOCAL = [{"alpha": a, "gamma": g} for a in (None, 0.25, 0.5) for g in (0.0, 0.5, 1.0, 2.0)]
HALTED = [
    {"alpha": 0.25, "gamma": g, "phi": phi, "mode": mode}
    for g, phi, mode in itertools.product((0.5, 1.0, 2.0), (0.3, 0.7), ("positives", "p_t"))
] + [{"mode": "release", "phi": phi, "gamma": g} for phi in (0.3, 0.7) for g in (0.5, 2.0)]
BONUS = [
    {"bonus": "log"},
    {"bonus": "log", "clamp_eps": 0.2},
    {"bonus": "conservative", "log_end": 0.4},
    {"bonus": "power", "power": 2.5},
    {"bonus": "simplified", "phi": 0.3},
]
WEIGHTS = [{"beta": 0.0}] + [
    {"beta": 0.99, "normalisation": n, "bonus_scale": 0.3} for n in ("mean_one", "paper", "max")
]
EUREKA = [{**b, **w} for b in BONUS for w in WEIGHTS]
#: Parameters to try for each loss; a loss that is not here is tried with its defaults. A new loss
#: needs its formula in tests/reference/losses.py and its call in scalar_rows().
PARAMETERS = {
    "balanced_softmax": [{"tau": tau} for tau in (0.0, 0.25, 1.0)],
    "balanced_sigmoid": [{"keep_constant": keep} for keep in (False, True)],
    "focal": FOCAL,
    "softmax_focal": [{"gamma": g} for g in (0.0, 0.5, 1.0, 2.0)],
    "halted_focal": HALTED,
    "softmax_halted_focal": [
        {"gamma": g, "phi": phi, "tail_fraction": t}
        for g, phi, t in itertools.product((0.5, 2.0), (0.3, 0.7), (0.0, 0.4, 0.6, 1.0))
    ],
    "eureka": [{**p, "gamma": g} for p in EUREKA for g in (0.5, 2.0)],
    "softmax_eureka": EUREKA,
    "ldam": [{"max_margin": m, "scale": s} for m in (0.0, 0.5) for s in (1.0, 4.0)],
    "eql": [{"threshold": t} for t in (0.0011, 0.1, 0.3)],
    # nothing is drawn: no class is rare, or all labels are
    "droploss": [{"threshold": t} for t in (0.0011, 1.0)],
    "gol": [{"threshold": t, "linear_below": -9.0} for t in (0.0011, 1.0)],
    "gumbel": [{"linear_below": -9.0}],
    "efl": [{"alpha": a, "gamma": g} for a in (None, 0.25) for g in (0.5, 2.0)],
    # nothing is drawn: there are not as many others, or none is wanted
    "bags": [
        {"bounds": bounds, "others_ratio": ratio}
        for bounds in ((10.0, 100.0, 1000.0), (50.0,), ())
        for ratio in (0.0, 100.0)
    ],
    "iif": [
        {"variant": v} for v in ("raw", "smooth", "rel", "normit", "gombit", "base2", "base10")
    ],
    "acsl": [
        {"score_threshold": t, "rare_share": r, "common_share": r}
        for t in (0.3, 0.7)
        for r in (0.0, 1.0)
    ],
    "seesaw": [{"p": p, "q": q, "eps": e} for p, q, e in ((0.8, 2.0, 0.01), (0.3, 1.0, 0.5))],
    # probability 1: without chance
    "softmax_equalization": [{"threshold": t, "probability": 1.0} for t in (0.0, 0.05, 0.3)],
}
CASES = [(name, p) for name in sorted(LOSSES) for p in PARAMETERS.get(name, [{}])]


def batch(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(NUM_ROWS, NUM_COLUMNS, generator=generator, dtype=torch.float64) * 2
    labels = torch.arange(NUM_ROWS) % (NUM_COLUMNS + (kind == "sigmoid"))
    return logits, labels


def scalar_rows(name: str, logits: list, labels: list, parameters: dict) -> list:
    """Return the losses of rows: scalars for softmax kinds, lists for sigmoid kinds."""
    rows = list(zip(logits, labels))
    if name in ("softmax_ce", "softmax_focal"):
        return [getattr(reference, name)(z, y, **parameters) for z, y in rows]
    if name == "softmax_equalization":
        spared = [n / sum(COUNTS) < parameters["threshold"] for n in COUNTS]
        return [reference.equalization(z, y, spared) for z, y in rows]
    if name in ("balanced_softmax", "softmax_halted_focal", "softmax_eureka", "ldam"):
        return [getattr(reference, name)(z, y, COUNTS, **parameters) for z, y in rows]
    if name == "balanced_sigmoid":
        return [
            reference.balanced_sigmoid(
                z, y if y < NUM_COLUMNS else None, COUNTS, NUM_IMAGES, **parameters
            )
            for z, y in rows
        ]
    if name == "seesaw":  # before the first step
        return [reference.seesaw(z, y, [0.0] * NUM_COLUMNS, **parameters) for z, y in rows]
    if name == "bags":
        return reference.bags(logits, labels, COUNTS, **parameters)
    if name == "iif":
        return [reference.iif(z, y, COUNTS, NUM_IMAGES, **parameters) for z, y in rows]
    if name == "equilibrium":  # before the first step
        return [reference.softmax_ce(z, y) for z, y in rows]
    if name == "ecm":
        return [reference.ecm(z, y, COUNTS) for z, y in rows]
    if name in ("eql", "droploss", "gol"):
        # With all classes rare, rho is 1, and DropLoss keeps all of the background.
        rare = [n / NUM_IMAGES < parameters["threshold"] for n in COUNTS]
        element = reference.gumbel if name == "gol" else reference.sigmoid_ce
        return [
            [k * element(x, float(j == y)) for j, (x, k) in enumerate(zip(z, kept))]
            for z, y in rows
            for kept in [reference.eql_kept(y, rare)]
        ]
    if name == "acsl":
        groups = "".join("r" if n <= 10 else "c" if n <= 100 else "f" for n in COUNTS)
        drawn = "rcf" if parameters["rare_share"] else "f"
        kept = [reference.acsl_kept(*r, groups, parameters["score_threshold"], drawn) for r in rows]
        return [reference.weighted_sigmoid_ce(*r, k, k) for r, k in zip(rows, kept)]
    if name in ("gumbel", "efl"):
        given = {} if name == "gumbel" else {"g": 1.0, **parameters}  # before the first step
        element = getattr(reference, name)
        return [[element(x, float(j == y), **given) for j, x in enumerate(z)] for z, y in rows]
    if name == "fedloss":
        present = {y for _, y in rows}
        assert len(present) > NUM_COLUMNS  # all classes and the background: nothing is drawn
        ones = [1.0] * NUM_COLUMNS
        return [reference.weighted_sigmoid_ce(z, y, ones, ones) for z, y in rows]
    if name == "eqlv2":  # before the first step
        weights = reference.eqlv2_weights([0.0] * NUM_COLUMNS, [0.0] * NUM_COLUMNS, **parameters)
        return [reference.weighted_sigmoid_ce(z, y, *weights) for z, y in rows]
    extra: list = [{}] * NUM_COLUMNS
    parameters = dict(parameters)
    if name == "eureka":
        given = {k: parameters.pop(k) for k in ("beta", "normalisation") if k in parameters}
        weights = reference.class_weights(COUNTS, "effective_number", **given)
        extra = [{"weight": w} for w in weights]
    element = {
        "sigmoid_ce": reference.sigmoid_ce,
        "focal": reference.sigmoid_focal,
        "halted_focal": reference.sigmoid_halted_focal,
        "eureka": reference.sigmoid_eureka,
    }[name]
    return [
        [element(x, float(k == y), **parameters, **extra[k]) for k, x in enumerate(z)]
        for z, y in rows
    ]


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
def test_equals_the_scalar_formula(name, parameters):
    criterion = Criterion(name, class_counts=COUNTS, num_images=NUM_IMAGES, **parameters)
    logits, labels = batch(criterion.kind)
    expected = torch.tensor(
        scalar_rows(name, logits.tolist(), labels.tolist(), parameters), dtype=torch.float64
    )
    rows = expected if criterion.kind == "softmax" else expected.sum(dim=1)
    torch.testing.assert_close(criterion.row_losses(logits, labels), rows)


@pytest.mark.parametrize("weights", ["effective_number", "inverse_frequency"])
@pytest.mark.parametrize("normalisation", ["mean_one", "paper", "max"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_class_weights_multiply_the_rows(name, weights, normalisation):
    kind = get_loss(name).kind
    criterion = Criterion(
        name,
        class_counts=COUNTS,
        num_images=NUM_IMAGES,
        class_weights=ClassWeights(weights, beta=0.99, normalisation=normalisation),
    )
    logits, labels = batch(kind)
    by_class = [*reference.class_weights(COUNTS, weights, 0.99, normalisation), 1.0]
    torch.manual_seed(0)  # some losses draw
    rows = Criterion(name, class_counts=COUNTS, num_images=NUM_IMAGES).row_losses(logits, labels)
    expected = [w * loss for w, loss in zip([by_class[y] for y in labels], rows.tolist())]
    torch.manual_seed(0)
    losses = criterion.row_losses(logits, labels)
    torch.testing.assert_close(losses.tolist(), expected)
    # By the number of rows, not by the sum of the weights.
    torch.manual_seed(0)
    mean = float(criterion.mean_loss(logits, labels))
    assert mean == pytest.approx(sum(expected) / NUM_ROWS)
