"""What every loss of the table must satisfy; a new row is covered by being there."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES, get_loss
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.draws import Draws
from lt_det.losses.state import frozen_states
from lt_det.losses.targets import one_hot_targets

NUM_ROWS, NUM_CLASSES = 6, 4
COUNTS = torch.tensor([90.0, 50.0, 20.0, 1.0], dtype=torch.float64)
NUM_IMAGES = 100


def make_criterion(name: str, **hyperparameters: object) -> Criterion:
    return unbound(name, class_counts=COUNTS, num_images=NUM_IMAGES, **hyperparameters)


def unbound(name: str, **arguments: object) -> Criterion:
    """Return a criterion; "+weights" after the name of its loss adds class weights."""
    name, _, weighted = name.partition("+")
    class_weights = ClassWeights("effective_number", beta=0.9) if weighted else None
    return Criterion(name, class_weights=class_weights, **arguments)


def warmed(name: str, **hyperparameters: object) -> Criterion:
    """Return a criterion whose running state, if it has one, has seen a batch."""
    criterion = make_criterion(name, **hyperparameters)
    batch = make_batch(criterion.kind)
    with criterion.step(*batch):
        criterion(*batch)
    return criterion


def make_batch(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(NUM_ROWS, NUM_CLASSES, generator=generator, dtype=torch.float64) * 3
    labels = torch.tensor([0, 1, 2, 3, 3, 1])
    if kind == "sigmoid":
        labels = torch.tensor([0, 1, 2, 3, 4, 4])  # 4 = background
        return logits.to(dtype), one_hot_targets(labels, num_classes=NUM_CLASSES, dtype=dtype)
    return logits.to(dtype), labels


class Seeded:
    """A criterion that starts each call from the same random state: some losses draw numbers."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def __getattr__(self, name: str) -> object:
        return getattr(self.criterion, name)

    def __call__(self, *args: object, **keys: object) -> Tensor:
        torch.manual_seed(0)
        return self.criterion(*args, **keys)


#: Parameters without factors that have no gradient by design: finite differences see them.
WITHOUT_DETACHED = {"seesaw": {"q": 0.0}}


@pytest.fixture(params=sorted([*LOSSES, *(f"{name}+weights" for name in LOSSES)]))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_is_elementwise_and_differentiable(name):
    criterion = Seeded(warmed(name, **WITHOUT_DETACHED.get(name.partition("+")[0], {})))
    logits, targets = make_batch(criterion.kind)
    loss = criterion(logits, targets)
    assert loss.shape == (logits.shape if criterion.kind == "sigmoid" else logits.shape[:1])
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), logits.requires_grad_())


def test_draws_come_from_seed_and_iteration_alone(name):
    """Never from the random state of the process: a second look would draw other numbers."""
    criterion = warmed(name)
    batch = make_batch(criterion.kind)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for seed in (0, 1):
        criterion.draws = Draws(seed, lambda: 3)
        with frozen_states(criterion), criterion.step(*batch):
            first = criterion(*batch)
        assert torch.equal(criterion(*batch), first)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_losses_that_draw_say_so():
    drawn = {name for name, spec in LOSSES.items() if spec.draws}
    assert drawn == {"softmax_equalization", "fedloss", "droploss", "gol", "acsl", "bags"}
    criterion = make_criterion("softmax_equalization", threshold=0.9, probability=0.5)
    found = []
    for seed, iteration in ((0, 3), (0, 4), (1, 3), (0, 3)):
        criterion.draws = Draws(seed, lambda iteration=iteration: iteration)
        found.append(criterion(torch.zeros(200, NUM_CLASSES), torch.zeros(200, dtype=torch.int64)))
    assert not any(torch.equal(found[0], other) for other in found[1:3])
    assert torch.equal(found[0], found[3])
    # Rows draw by themselves: of 3 classes all kept, some spared, or none left.
    assert len(found[0].unique()) == 4


def test_changes_nothing_and_repeats(name):
    criterion = Seeded(make_criterion(name))
    logits, targets = make_batch(criterion.kind)
    before = logits.clone(), targets.clone(), criterion.class_counts.clone()
    first, second = criterion(logits, targets), criterion(logits, targets)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    for old, new in zip(before, (logits, targets, criterion.class_counts)):
        assert torch.equal(old, new)


def test_reductions_agree(name):
    criterion = Seeded(make_criterion(name))
    batch = make_batch(criterion.kind)
    loss = criterion(*batch)
    torch.testing.assert_close(criterion(*batch, reduction="mean"), loss.mean())
    torch.testing.assert_close(criterion(*batch, reduction="sum"), loss.sum())
    with pytest.raises(ValueError, match="reduction must be"):
        criterion(*batch, reduction="average")


def test_rows_are_independent(name):
    criterion = Seeded(make_criterion(name))
    logits, targets = make_batch(criterion.kind)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(
        criterion(logits[order], targets[order]), criterion(logits, targets)[order]
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_empty_batch_gives_zero_with_a_gradient(name, reduction):
    criterion = make_criterion(name)
    logits, targets = make_batch(criterion.kind)
    logits = logits[:0].requires_grad_()
    loss = criterion(logits, targets[:0], reduction=reduction)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_is_finite_for_extreme_logits(name, dtype, scale):
    criterion = Seeded(warmed(name))
    logits, targets = make_batch(criterion.kind, dtype)
    logits = (logits.sign() * scale).requires_grad_()
    loss = criterion(logits, targets)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    exact = criterion(
        logits.detach().double(), targets.double() if targets.is_floating_point() else targets
    )
    torch.testing.assert_close(loss.double(), exact, rtol=1e-3, atol=1e-3)


#: Values of the hyper-parameters that are no numbers, or of which half is nothing new.
OTHER_VALUES = {
    "mode": "release",
    "bonus": "simplified",
    "normalisation": "max",
    "clamp_eps": 0.5,
    "tail_fraction": 0.0,
    "threshold": 0.4,
    "probability": 0.0,
    "num_sampled": 3,
    "linear_below": 1.0,
    "bounds": (60.0,),
    "others_ratio": 0.0,
    "variant": "smooth",
    "rare_max": 60.0,
    "common_max": 60.0,
    "rare_share": 1.0,
    "common_share": 1.0,
    "score_threshold": 0.01,
    "frequency_power": -20.0,
}
#: Hyper-parameters that speak only beside others.
NEEDS = {
    "log_end": {"bonus": "conservative"},
    "power": {"bonus": "power"},
    "phi": {"bonus": "simplified"},
    "normalisation": {"beta": 0.9},
    "probability": {"threshold": 0.4},
    "rare_max": {"rare_share": 1.0},
    "rare_share": {"rare_max": 60.0},
    "common_share": {"common_max": 60.0, "common_share": 0.0},
    "frequency_power": {"num_sampled": 3, "frequency_power": 20.0},
}
#: Losses whose parameters do not speak while all classes are in the batch.
OF_MISSING_CLASSES = {"fedloss"}
#: Hyper-parameters of a background column, which there is none of here; see the tests of the loss.
OF_A_BACKGROUND = {"background_ratio", "background_score"}


def test_every_hyperparameter_matters(name):
    known = make_criterion(name).spec.hyperparameters()
    for key, default in known.items():
        if key in OF_A_BACKGROUND:
            continue
        if isinstance(default, bool):
            other: object = not default
        else:
            other = OTHER_VALUES[key] if key in OTHER_VALUES else default * 0.5 + 0.1
        beside = {k: v for k, v in NEEDS.get(key, {}).items() if k in known}
        criterion = warmed(name, **beside)
        logits, targets = make_batch(criterion.kind)
        if name.partition("+")[0] in OF_MISSING_CLASSES:
            targets = targets * torch.tensor([0, 1, 0, 0])
        batch = logits, targets
        changed = warmed(name, **{**beside, key: other})(*batch)
        assert not torch.allclose(changed, criterion(*batch)), key


def test_row_and_mean_losses_agree_for_labels(name):
    criterion = make_criterion(name)
    logits, _ = make_batch(criterion.kind)
    labels = torch.tensor([0, 1, 2, 3, 3, 1])
    rows = criterion.row_losses(logits, labels)
    assert rows.shape == (NUM_ROWS,)
    torch.testing.assert_close(criterion.mean_loss(logits, labels), rows.mean())
    assert criterion.mean_loss(logits[:0], labels[:0]).item() == 0.0


def test_counts_are_no_part_of_a_checkpoint_and_the_state_is(name):
    criterion = make_criterion(name)
    state = [] if criterion.state is None else list(criterion.state.state_dict())
    assert list(criterion.state_dict()) == [f"state.{key}" for key in state]
    assert bool(state) == (criterion.spec.state is not None)


def test_wrong_inputs_are_named(name):
    criterion = make_criterion(name)
    logits, targets = make_batch(criterion.kind)
    argument = "targets" if criterion.kind == "sigmoid" else "labels"
    with pytest.raises(ValueError, match=f"{argument} must be"):
        criterion(logits, targets[:-1])
    with pytest.raises(ValueError, match="logits must be float"):
        criterion(logits.long(), targets)
    if criterion.spec.bound_arguments(**criterion.hyperparameters) or criterion.class_weights:
        for bad, text in ((0.0, r"class ids \[1\]"), (float("nan"), r"class ids \[1\]")):
            counts = COUNTS.clone()
            counts[1] = bad
            with pytest.raises(ValueError, match=text):
                unbound(name, class_counts=counts, num_images=NUM_IMAGES)(logits, targets)
            with pytest.raises(ValueError, match=text):
                unbound(name).bind(counts, NUM_IMAGES)
        with pytest.raises(ValueError, match="one number for each of the 4 columns"):
            unbound(name, class_counts=COUNTS[:3], num_images=NUM_IMAGES)(logits, targets)
        with pytest.raises(RuntimeError, match="needs class counts"):
            unbound(name)(logits, targets)
    else:
        assert torch.equal(unbound(name)(logits, targets), criterion(logits, targets))


def test_counts_may_come_at_the_first_batch():
    calls = []

    def load() -> tuple[Tensor, int]:
        calls.append(1)
        return COUNTS, NUM_IMAGES

    criterion = Criterion("balanced_softmax", load_counts=load)
    batch = make_batch("softmax")
    assert not calls
    torch.testing.assert_close(criterion(*batch), make_criterion("balanced_softmax")(*batch))
    criterion(*batch)
    assert len(calls) == 1


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(
        KeyError, match=r"'balanced_softmx', did you mean 'balanced_softmax'\?; known:"
    ):
        get_loss("balanced_softmx")
    with pytest.raises(ValueError, match=r"no parameter \['taau'\]; it has \['tau'\]"):
        Criterion("balanced_softmax", taau=1.0)


def test_background_has_no_target():
    targets = one_hot_targets(torch.tensor([1, 3, 0]), num_classes=3, dtype=torch.float32)
    assert targets.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
