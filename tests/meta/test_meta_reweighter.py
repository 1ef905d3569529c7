from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions
from lt_det.meta.meta_learner import ClassifierStage
from lt_det.meta.meta_reweighter import MetaReweighter
from tests.processes import free_port, spawn_within

K, D = 4, 6


def make_stage(seed: int = 0, rows: int = 12) -> ClassifierStage:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K + 1, (rows,), generator=generator)
    meta_labels = torch.randint(0, K + 1, (rows,), generator=generator)
    torch.manual_seed(7)
    plain = Criterion("sigmoid_ce").row_losses
    return ClassifierStage(
        classifier=nn.Linear(D, K),
        regions=Regions(torch.randn(rows, D, generator=generator), labels),
        meta_regions=Regions(torch.randn(rows, D, generator=generator), meta_labels),
        row_losses=plain,
        meta_row_losses=plain,
    )


def sgd(stage: ClassifierStage) -> torch.optim.SGD:
    return torch.optim.SGD(stage.classifier.parameters(), lr=0.5)


def test_psi_follows_adam_on_the_chained_gradient():
    stage, meta = make_stage(), MetaReweighter(K, lr=0.1)
    gradient = meta.update([stage], sgd(stage))
    assert gradient.abs().max() > 0
    # Adam's first step is lr * sign(gradient), up to eps.
    torch.testing.assert_close(
        meta.reweighter.psi.detach(), -0.1 * gradient.sign(), rtol=1e-2, atol=1e-3
    )


def test_learned_weights_lower_the_meta_loss():
    """The point of it all: after psi has learned, a step by its weights helps the meta batch."""
    stage, meta = make_stage(3, rows=40), MetaReweighter(K, lr=0.05)

    def meta_loss_after_a_step() -> float:
        classifier = nn.Linear(D, K)
        classifier.load_state_dict(stage.classifier.state_dict())
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.5)
        rows = stage.row_losses(classifier(stage.regions.features), stage.regions.labels)
        (rows * meta.weigh(stage.regions.labels)).mean().backward()
        optimizer.step()
        rows = stage.meta_row_losses(
            classifier(stage.meta_regions.features), stage.meta_regions.labels
        )
        return rows.mean().item()

    before = meta_loss_after_a_step()
    for _ in range(50):
        meta.update([stage], sgd(stage))
    assert meta_loss_after_a_step() < before - 1e-3


def test_stages_of_a_cascade_add_up():
    first, second = make_stage(1), make_stage(2)
    both = MetaReweighter(K).update([first, second], sgd_of(first, second))
    single = [MetaReweighter(K).update([s], sgd(s)) for s in (first, second)]
    torch.testing.assert_close(both, single[0] + single[1])


def sgd_of(*stages: ClassifierStage) -> torch.optim.SGD:
    parameters = [p for stage in stages for p in stage.classifier.parameters()]
    return torch.optim.SGD(parameters, lr=0.5)


def test_batch_without_foreground_leaves_psi_and_adam_alone():
    stage, meta = make_stage(), MetaReweighter(K)
    meta.update([stage], sgd(stage))
    before = meta.state_dict()
    background = Regions(stage.regions.features, torch.full_like(stage.regions.labels, K))
    assert meta.update([stage._replace(regions=background)], sgd(stage)) is None
    assert torch.equal(meta.state_dict()["psi"], before["psi"])
    assert meta.optimizer.state_dict()["state"][0]["step"] == 1
    assert torch.equal(meta.weigh(background.labels), torch.ones(len(background.labels)))


@pytest.mark.parametrize("seed", range(5))
def test_batch_of_one_class_leaves_psi_where_it_is(seed):
    """Its weight is 1 whatever psi is: what Adam gets is rounding, not a direction."""
    stage, meta = make_stage(seed), MetaReweighter(K, lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        meta.reweighter.psi.copy_(torch.randn(K, generator=generator))
    before = meta.reweighter.psi.detach().clone()
    labels = torch.full_like(stage.regions.labels, K)
    labels[: 3 + seed] = 1
    large = Regions(100 * stage.meta_regions.features, stage.meta_regions.labels)
    meta.update(
        [stage._replace(regions=Regions(stage.regions.features, labels), meta_regions=large)],
        sgd(stage),
    )
    assert (meta.reweighter.psi.detach() - before).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"betas": (0.9, 1.0)}, "betas must be two numbers"), ({"lr": 0.0}, "lr must be above")],
)
def test_bad_options_name_their_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        MetaReweighter(K, **arguments)


def test_not_finite_features_leave_psi_alone():
    stage, meta = make_stage(), MetaReweighter(K)
    stage.meta_regions.features[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="psi was left as it was"):
        meta.update([stage], sgd(stage))
    assert torch.equal(meta.reweighter.psi, torch.zeros(K))


def test_state_continues_bit_by_bit():
    stage, meta = make_stage(), MetaReweighter(K)
    for _ in range(3):
        meta.update([stage], sgd(stage))
    twin = MetaReweighter(K)
    twin.load_state_dict(meta.state_dict())
    for _ in range(3):
        meta.update([stage], sgd(stage))
        twin.update([stage], sgd(stage))
    assert torch.equal(meta.reweighter.psi, twin.reweighter.psi)
    with pytest.raises(ValueError, match="NUM_CLASSES"):
        MetaReweighter(K + 1).load_state_dict(meta.state_dict())


def test_bad_inner_step_is_named():
    with pytest.raises(ValueError, match=r"inner_step must be .* got 'adam'"):
        MetaReweighter(K, inner_step="adam")


def shard(stage: ClassifierStage, rank: int) -> ClassifierStage:
    """Every other region, so that the ranks' class histograms differ."""
    pick = slice(rank, None, 2)
    return stage._replace(
        regions=Regions(stage.regions.features[pick], stage.regions.labels[pick]),
        meta_regions=Regions(stage.meta_regions.features[pick], stage.meta_regions.labels[pick]),
    )


def updates(stage: ClassifierStage) -> tuple[torch.Tensor, torch.Tensor]:
    meta = MetaReweighter(K, lr=0.05, inner_step="optimizer")
    optimizer = torch.optim.SGD(stage.classifier.parameters(), lr=0.5, momentum=0.9)
    for _ in range(5):
        meta.update([stage], optimizer)
    return meta.reweighter.psi.detach(), meta.weigh(stage.regions.labels)


def two_ranks(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(updates(shard(make_stage(5, rows=24), rank)), f"{folder}/{rank}")
    # The group ends with the process: destroying gloo right after a collective can deadlock.
    dist.barrier()


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    spawn_within(two_ranks, (free_port(), str(tmp_path)), nprocs=2)
    stage = make_stage(5, rows=24)
    psi, weights = updates(stage)
    (psi_0, weights_0), (psi_1, weights_1) = (torch.load(tmp_path / str(r)) for r in (0, 1))
    assert torch.equal(psi_0, psi_1)
    torch.testing.assert_close(psi_0, psi, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights_0, weights[0::2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights_1, weights[1::2], rtol=1e-5, atol=1e-6)
    assert psi.abs().min() > 0.01
