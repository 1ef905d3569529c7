"""Running states: when they move, what a checkpoint keeps, and that all ranks have the same."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import Tensor, nn

from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.state import frozen_states
from tests.processes import run_in_two_processes

NUM_CLASSES = 4
COUNTS = [400.0, 40.0, 9.0, 2.0]
STATEFUL = sorted(name for name, spec in LOSSES.items() if spec.state is not None)


def make(name: str, background: bool = True) -> Criterion:
    criterion = Criterion(name, class_counts=COUNTS, num_images=500)
    criterion.fit_head(NUM_CLASSES, background=background)
    return criterion


def batch(criterion: Criterion, seed: int, rows: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    columns = NUM_CLASSES + len(criterion.extra_columns(background=criterion.background))
    logits = 2 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    labels = torch.randint(NUM_CLASSES + criterion.background, (rows,), generator=generator)
    return logits.requires_grad_(), labels


def step(criterion: Criterion, logits: Tensor, labels: Tensor) -> Tensor:
    with criterion.step(logits, labels):
        return criterion.mean_loss(logits, labels)


def state(criterion: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(criterion.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", STATEFUL)
def test_moves_once_a_step_and_at_no_other_time(name):
    criterion = make(name)
    start = state(criterion)
    logits, labels = batch(criterion, 0)
    criterion.mean_loss(logits, labels)
    criterion.row_losses(logits, labels)
    criterion.scores(logits)
    assert same(state(criterion), start)
    for quiet in (torch.no_grad(), frozen_states(nn.Sequential(criterion))):
        with quiet:
            step(criterion, logits, labels)
    assert same(state(criterion), start)
    criterion.eval()
    step(criterion, logits, labels)
    assert same(state(criterion), start)
    criterion.train()
    step(criterion, logits, labels)
    assert not same(state(criterion), start)


@pytest.mark.parametrize("name", STATEFUL)
def test_moves_before_or_after_its_loss(name):
    criterion = make(name)
    for seed in range(3):
        logits, labels = batch(criterion, seed)
        before = criterion.mean_loss(logits, labels)
        found = step(criterion, logits, labels)
        after = criterion.mean_loss(logits, labels)
        assert not torch.equal(before, after)
        assert torch.equal(found, after if criterion.state.moves == "before" else before)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_failed_step_leaves_a_state_that_moves_after(name):
    criterion = make(name)
    if criterion.state.moves == "before":
        pytest.skip("moves before the loss")
    start = state(criterion)
    logits, labels = batch(criterion, 0)
    with pytest.raises(ValueError, match="targets must"), criterion.step(logits, labels):
        criterion(logits[:1], labels.double())
    assert same(state(criterion), start)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_checkpoint_continues_the_training(name):
    whole, first = make(name), make(name)
    for seed in range(4):
        step(whole, *batch(whole, seed))
    for seed in range(2):
        step(first, *batch(first, seed))
    second = make(name)
    second.load_state_dict(state(first))
    for seed in range(2, 4):
        step(second, *batch(second, seed))
    assert same(state(whole), state(second))
    logits, labels = batch(whole, 9)
    assert torch.equal(whole.mean_loss(logits, labels), second.mean_loss(logits, labels))


@pytest.mark.parametrize("name", STATEFUL)
def test_weights_of_another_loss_have_no_state(name):
    criterion = make(name)
    step(criterion, *batch(criterion, 0))
    moved = state(criterion)
    criterion.load_state_dict({})
    assert same(state(criterion), moved)


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("rows", [0, 5])
def test_batches_without_foreground_are_steps_too(name, rows):
    criterion = make(name)
    logits, _ = batch(criterion, 0, rows)
    labels = torch.full((rows,), NUM_CLASSES)
    loss = step(criterion, logits, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert all(torch.isfinite(value).all() for value in state(criterion).values())
    later, labels = batch(criterion, 1)
    assert torch.isfinite(step(criterion, later, labels))


@pytest.mark.parametrize("name", STATEFUL)
def test_no_cast_of_a_model_touches_the_state(name):
    criterion = make(name)
    step(criterion, *batch(criterion, 0))
    moved = state(criterion)
    nn.Sequential(criterion).half().to(torch.bfloat16)
    assert same(state(criterion), moved)


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_collects_in_float32(name, dtype):
    found = make(name), make(name)
    for criterion, cast in zip(found, (lambda z: z, torch.Tensor.float)):
        logits, labels = batch(criterion, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=cast(logits) is logits):
            step(criterion, cast(logits.detach().to(dtype)).requires_grad_(), labels)
    assert same(state(found[0]), state(found[1]))


@pytest.mark.parametrize("name", ["efl", "eqlv2"])
def test_rows_that_are_summed_in_parts_add_up(name, monkeypatch):
    found = []
    for elements in (2**20, 15, 1):  # all rows, some, one at a time
        monkeypatch.setattr("lt_det.losses.gradient_sums._ELEMENTS", elements)
        criterion = make(name)
        for seed in range(3):
            step(criterion, *batch(criterion, seed))
        step(criterion, *batch(criterion, 3, rows=0))
        found.append(state(criterion))
    for key, value in found[0].items():
        assert bool(value.any())
        for other in found[1:]:
            torch.testing.assert_close(other[key], value, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_deferred_loss_moves_when_it_is_in_use(name):
    iteration = 0
    deferred = DeferredCriterion(
        make(name), make(name), start_iteration=5, current_iteration=lambda: iteration
    )
    deferred.fit_head(NUM_CLASSES, background=True)
    for iteration, moved in ((4, deferred.before), (5, deferred.after)):  # noqa: B007
        start = {part: state(part) for part in (deferred.before, deferred.after)}
        logits, labels = batch(moved, iteration)
        with deferred.step(logits, labels):
            deferred.mean_loss(logits, labels)
        for part, before in start.items():
            assert same(state(part), before) == (part is not moved)


def test_losses_of_other_columns_cannot_follow_each_other():
    deferred = DeferredCriterion(
        Criterion("sigmoid_ce"), make("eqlv2"), start_iteration=5, current_iteration=lambda: 0
    )
    with pytest.raises(ValueError, match=r"same extra columns, got 'sigmoid_ce' with \(\)"):
        deferred.fit_head(NUM_CLASSES, background=True)
    deferred.fit_head(NUM_CLASSES, background=False)


def test_stateless_losses_have_nothing_to_do():
    criterion = Criterion("sigmoid_ce")
    logits, labels = batch(criterion, 0)
    assert type(criterion.step(logits, labels)).__name__ == "nullcontext"
    assert not list(criterion.children())


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_rank_calls_the_same_collectives_whatever_its_batch(name, background, monkeypatch):
    # With a condition on the batch the other ranks wait for ever, or sum up other things.
    calls: list[tuple] = []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr(
        "torch.distributed.all_reduce", lambda tensor: calls.append((tensor.shape, tensor.dtype))
    )
    criterion = make(name, background)
    logits, labels = batch(criterion, 0)
    step(criterion, logits, labels)
    usual = list(calls)
    assert usual
    for rows, label in ((0, 0), (len(labels), NUM_CLASSES if background else 0)):
        calls.clear()
        step(criterion, logits[:rows], torch.full_like(labels[:rows], label))
        assert calls == usual, f"{name}: the rows of a rank decide what it reduces"


def of_ranks(name: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches of two ranks; the second has no foreground at seed 1."""
    criterion = make(name)
    batches = [batch(criterion, 10 * seed + rank) for rank in range(2)]
    if seed == 1:
        logits, labels = batches[1]
        batches[1] = logits, torch.full_like(labels, NUM_CLASSES)
    return batches


def steps_of_a_rank(args: argparse.Namespace) -> None:
    states = {}
    for name in STATEFUL:
        criterion = make(name)
        for seed in range(3):
            step(criterion, *of_ranks(name, seed)[comm.get_rank()])
        states[name] = state(criterion)
    torch.save(states, args.folder / f"rank{comm.get_rank()}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    run_in_two_processes(steps_of_a_rank, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", STATEFUL)
def test_two_ranks_have_the_state_of_one_with_both_batches(name, ranks):
    assert same(ranks[0][name], ranks[1][name])
    criterion = make(name)
    for seed in range(3):
        both = of_ranks(name, seed)
        logits, labels = (torch.cat(parts) for parts in zip(*both))
        step(criterion, logits.detach().requires_grad_(), labels)
    for key, value in state(criterion).items():
        torch.testing.assert_close(ranks[0][name][key], value, rtol=1e-12, atol=1e-12)
