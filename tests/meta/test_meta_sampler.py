"""The Meta Sampler: what it draws, and how the draws depend on psi."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from lt_det.meta import meta_sampler
from lt_det.meta.hypergradient import Regions
from lt_det.meta.meta_learner import ClassifierStage
from lt_det.meta.meta_sampler import MetaSampler
from lt_det.meta.sgd_rule import SGDRule
from tests.processes import free_port, spawn_within

COUNTS = torch.tensor([6.0, 3.0, 1.0])


def sampler_at(rates: list[float], **keys) -> MetaSampler:
    sampler = MetaSampler(COUNTS, **keys)
    with torch.no_grad():
        sampler.psi.copy_(torch.logit(torch.tensor(rates)))
    return sampler


def test_classes_are_drawn_by_count_times_rate():
    assert torch.allclose(MetaSampler(COUNTS).class_probabilities(), COUNTS / 10)
    probabilities = sampler_at([0.5, 0.2, 0.8]).class_probabilities()
    expected = torch.tensor([3.0, 0.6, 0.8]) / 4.4
    assert torch.allclose(probabilities, expected)


def test_first_rates_are_those_of_the_release():
    rates = MetaSampler(COUNTS, init_power=0.3).rates()
    first = [(n / 10) ** -0.3 for n in (6, 3, 1)]
    expected = [r / (min(first) + max(first)) for r in first]
    assert rates.tolist() == pytest.approx(expected, rel=1e-5)
    assert rates[0] + rates[2] == pytest.approx(1.0)
    assert (MetaSampler(COUNTS).rates() == 0.5).all()


def test_score_weights_are_exact_for_what_does_not_depend_on_the_other_draws():
    """Sum over all classes a draw can have, against the derivative of the expected value."""
    sampler = sampler_at([0.5, 0.3, 0.7])
    values = torch.tensor([1.0, 2.0, 4.0])
    rates = sampler.psi.detach().clone().requires_grad_()
    probabilities = COUNTS * torch.sigmoid(rates)
    probabilities = probabilities / probabilities.sum()
    (expected,) = torch.autograd.grad((probabilities * values).sum(), rates)

    weights = sampler.draw_weights(torch.arange(3))
    assert torch.equal(weights.detach(), torch.ones(3))
    drawn = sampler.class_probabilities() * values
    (gradient,) = torch.autograd.grad(weights, sampler.psi, grad_outputs=drawn)
    torch.testing.assert_close(gradient, expected)
    assert gradient.abs().min() > 0.01


def score_error(lr: float) -> float:
    """Return the relative error of the estimator's mean over all batches of two draws."""
    generator = torch.Generator().manual_seed(0)
    features, weight, meta_noise = (
        torch.randn(*shape, generator=generator) for shape in ((3, 4), (3, 4), (9, 4))
    )
    classifier = torch.nn.Linear(4, 3)
    with torch.no_grad():
        classifier.weight.copy_(0.3 * weight)
        classifier.bias.zero_()
    meta = Regions(meta_noise + features.repeat(3, 1), torch.arange(3).repeat(3))
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    sampler, rules = MetaSampler(COUNTS), {"weight": SGDRule(lr=lr), "bias": SGDRule(lr=lr)}
    psi = sampler.psi.detach().double().requires_grad_()
    probabilities = F.softmax(COUNTS.double().log() + F.logsigmoid(psi), dim=0)
    expected_loss, mean = torch.zeros((), dtype=torch.float64), torch.zeros(3)
    for batch in itertools.product(range(3), repeat=2):
        labels = torch.tensor(batch)
        probability = probabilities[labels].prod()
        start = [p.detach().double().requires_grad_() for p in (classifier.weight, classifier.bias)]
        inner = loss(F.linear(features[labels].double(), *start), labels).mean()
        steps = torch.autograd.grad(inner, start)
        stepped = [p.detach() - lr * step for p, step in zip(start, steps)]
        outer = loss(F.linear(meta.features.double(), *stepped), meta.labels).mean()
        expected_loss = expected_loss + probability * outer
        stage = ClassifierStage(classifier, Regions(features[labels], labels), meta, loss, loss)
        gradient = sampler.stage_gradient(stage, meta, rules)
        mean += probability.detach().float() * gradient
    (expected,) = torch.autograd.grad(expected_loss, psi)
    return float((mean - expected).norm() / expected.norm())


def test_the_score_estimator_is_exact_to_first_order_in_the_step():
    errors = [score_error(lr) for lr in (0.04, 0.02, 0.01, 0.005)]
    ratios = [after / before for before, after in zip(errors, errors[1:])]
    assert ratios == pytest.approx([0.5] * 3, abs=0.04), errors
    assert errors[-1] < 0.01
    assert score_error(1.0) > 0.1  # and no more than that


def release_gradient(rates: torch.Tensor, values: torch.Tensor, temperature: float, draws: int):
    """The mean gradient of the released estimator: Gumbel-softmax over all ten images."""
    classes = torch.repeat_interleave(torch.arange(3), COUNTS.long())
    psi = torch.logit(rates).requires_grad_()
    gumbel = -torch.log(torch.empty(draws, 10).exponential_())
    soft = torch.softmax((F.logsigmoid(psi)[classes] + gumbel) / temperature, dim=1)
    hard = F.one_hot(soft.argmax(dim=1), 10) + soft - soft.detach()
    # x * s.detach() * s, summed over images.
    value = (values[classes] * hard.detach() * hard).sum() / draws
    return torch.autograd.grad(value, psi)[0]


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("at_once", [2**22, 10 * 7])
def test_gumbel_is_the_estimator_of_the_release(monkeypatch, temperature, at_once):
    """The same mean gradient, from draws made elsewhere and without the matrix of all images."""
    monkeypatch.setattr(meta_sampler, "_MAX_NOISE", at_once)
    rates, values = [0.5, 0.3, 0.7], torch.tensor([1.0, 2.0, 4.0])
    draws = 300_000 if at_once > 1000 else 20_000
    sampler = sampler_at(rates, estimator="gumbel", temperature=temperature)
    labels = torch.multinomial(sampler.class_probabilities(), draws, replacement=True)
    weights = sampler.draw_weights(labels)
    assert torch.equal(weights.detach(), torch.ones(draws))
    (ours,) = torch.autograd.grad((weights * values[labels]).mean(), sampler.psi)
    theirs = release_gradient(torch.tensor(rates), values, temperature, 300_000)
    assert (ours - theirs).norm() < (0.03 if at_once > 1000 else 0.12) * theirs.norm()
    assert theirs.norm() > 0.05


@pytest.mark.parametrize("estimator", ["score", "gumbel"])
def test_psi_moves_to_the_class_that_the_meta_set_lacks(estimator):
    """Class 2 is never drawn enough: the meta loss falls when its rate rises."""
    torch.manual_seed(3)
    sampler = MetaSampler(COUNTS, lr=0.1, estimator=estimator)
    classifier = torch.nn.Linear(3, 3)
    torch.nn.init.zeros_(classifier.weight)
    torch.nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.5)

    def ce(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    def batch(probabilities):
        labels = torch.multinomial(probabilities, 256, replacement=True)
        return Regions(F.one_hot(labels, 3) + 0.1 * torch.randn(256, 3), labels)

    for _ in range(30):
        stage = ClassifierStage(
            classifier, batch(sampler.class_probabilities()), batch(torch.ones(3)), ce, ce
        )
        assert sampler.update([stage], optimizer) is not None
    rates = sampler.rates()
    assert rates[2] > 0.6
    assert rates[0] < 0.45
    assert torch.allclose(sampler.relative_values(), rates / rates.mean())


def learned_psi(rank: int, ranks: int) -> torch.Tensor:
    """Psi after some updates on every ``ranks``-th row of the same batches."""
    torch.manual_seed(1)
    classifier, sampler = torch.nn.Linear(4, 3), MetaSampler(COUNTS, lr=0.05)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.5)
    ce = torch.nn.CrossEntropyLoss(reduction="none")

    def batch() -> Regions:
        features, labels = torch.randn(12, 4), torch.randint(0, 3, (12,))
        return Regions(features[rank::ranks], labels[rank::ranks])

    for _ in range(4):
        sampler.update([ClassifierStage(classifier, batch(), batch(), ce, ce)], optimizer)
    return sampler.psi.detach()


def one_of_two_ranks(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(learned_psi(rank, 2), f"{folder}/{rank}")
    # The group ends with the process: destroying gloo right after a collective can deadlock.
    dist.barrier()


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    spawn_within(one_of_two_ranks, (free_port(), str(tmp_path)), nprocs=2)
    psi_0, psi_1 = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    assert torch.equal(psi_0, psi_1)
    expected = learned_psi(0, 1)
    torch.testing.assert_close(psi_0, expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().min() > 0.01


def test_state_survives_and_refuses_other_classes():
    sampler, other = sampler_at([0.1, 0.2, 0.3]), MetaSampler(COUNTS)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.psi, sampler.psi)
    with pytest.raises(ValueError, match="NUM_CLASSES"):
        MetaSampler(torch.ones(4)).load_state_dict(sampler.state_dict())


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"estimator": "other"}, "estimator"),
        ({"temperature": 0.0}, "temperature"),
        ({"inner_step": "adam"}, "inner_step"),
        ({"class_counts": torch.tensor([1.0, 0.0])}, "class_counts"),
    ],
)
def test_bad_arguments_are_named(keys, word):
    with pytest.raises(ValueError, match=word):
        MetaSampler(**{"class_counts": COUNTS, **keys})
