"""The hypergradient against autograd through an explicit step and against differences."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions, class_hypergradient, row_hypergradient
from lt_det.meta.reweighter import ClassReweighter, class_histogram, region_weights
from lt_det.meta.sgd_rule import SGDRule, optimizer_rules, plain_rules

K, D = 5, 7
COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 1.0], dtype=torch.float64)


class Cosine(nn.Module):
    """A classifier that is not linear in its parameters."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns, D, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(columns, dtype=torch.float64))

    def forward(self, features):
        normal = nn.functional.normalize
        return 5 * normal(features, dim=1) @ normal(self.weight, dim=1).t() + self.bias


def make_problem(kind: str, classifier: str = "linear"):
    columns = K + 1 if kind == "softmax" else K
    module = nn.Linear(D, columns).double() if classifier == "linear" else Cosine(columns)
    counts = torch.cat([COUNTS, COUNTS.mean()[None]]) if kind == "softmax" else COUNTS
    name = "balanced_softmax" if kind == "softmax" else "balanced_sigmoid"
    inner = Criterion(name, class_counts=counts, num_images=100)
    outer = Criterion("softmax_ce" if kind == "softmax" else "sigmoid_ce")
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 5, 5])
    regions = Regions(torch.randn(10, D, dtype=torch.float64), labels)
    meta = Regions(torch.randn(6, D, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 5]))
    return module, inner, outer, regions, meta


def make_optimizer(module: nn.Module, **options: float) -> torch.optim.SGD:
    """SGD whose bias has another learning rate and whose momentum buffers are warm."""
    groups = [
        {"params": [module.weight], "lr": 0.3},
        {"params": [module.bias], "lr": 0.6, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.3, **options)
    for _ in range(2):
        optimizer.zero_grad()
        (module.weight.sin().sum() + module.bias.cos().sum()).backward()
        optimizer.step()
    return optimizer


def unrolled(module, inner, outer, regions, meta, class_weights, rules):
    """The same gradient by reverse mode through a step that keeps its graph."""
    params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    logits = functional_call(module, params, (regions.features,))
    losses = inner.row_losses(logits, regions.labels)
    loss = (region_weights(class_weights, regions.labels) * losses).mean()
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    stepped = {n: rules[n].step(params[n], g) for n, g in zip(params, grads)}
    meta_logits = functional_call(module, stepped, (meta.features,))
    return outer.row_losses(meta_logits, meta.labels).mean()


OPTIONS = [
    {},
    {"momentum": 0.9},
    {"weight_decay": 0.1},
    {"momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2},
    {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_equals_autograd_through_the_step(kind, options, classifier):
    module, inner, outer, regions, meta = make_problem(kind, classifier)
    rules = optimizer_rules(make_optimizer(module, **options), dict(module.named_parameters()))
    weights = torch.rand(K, dtype=torch.float64, requires_grad=True)
    arguments = {
        "regions": regions,
        "meta_regions": meta,
        "class_weights": weights,
        "row_losses": inner.row_losses,
        "meta_row_losses": outer.row_losses,
        "rules": rules,
    }
    loss = unrolled(module, inner, outer, regions, meta, weights, rules)
    (expected,) = torch.autograd.grad(loss, weights)
    for closed_form in [None, False]:  # the closed form, where there is one, and forward mode
        ours = class_hypergradient(module, closed_form=closed_form, **arguments)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-12)
    assert expected.abs().min() > 1e-6


def test_equals_central_differences():
    module, inner, outer, regions, meta = make_problem("softmax")
    rules = plain_rules(make_optimizer(module), dict(module.named_parameters()))
    weights = torch.rand(K, dtype=torch.float64)
    ours = class_hypergradient(
        module,
        regions=regions,
        meta_regions=meta,
        class_weights=weights,
        row_losses=inner.row_losses,
        meta_row_losses=outer.row_losses,
        rules=rules,
    )
    for c in range(K):
        step = torch.zeros(K, dtype=torch.float64)
        step[c] = 1e-5
        up, down = (
            unrolled(module, inner, outer, regions, meta, weights + sign * step, rules).item()
            for sign in (1, -1)
        )
        assert ours[c].item() == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_rule_is_the_optimizer_s_own_step():
    for options in OPTIONS:
        module = nn.Linear(D, K).double()
        optimizer = make_optimizer(module, **options)
        rules = optimizer_rules(optimizer, dict(module.named_parameters()))
        twin = copy.deepcopy(module)
        optimizer.zero_grad()
        module(torch.ones(1, D).double()).pow(2).sum().backward()
        expected = {
            n: rules[n].step(p, dict(module.named_parameters())[n].grad)
            for n, p in twin.named_parameters()
        }
        optimizer.step()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(parameter, expected[name])


def test_rule_before_the_first_step_has_no_buffer():
    rule = SGDRule(lr=0.1, momentum=0.9, dampening=0.5)
    one = torch.ones(1)
    torch.testing.assert_close(rule.step(one, one), one - 0.1)  # torch's first buffer: undampened
    assert rule.slope() == pytest.approx(-0.1)


def test_parameters_stay_as_they_are():
    module, inner, outer, regions, meta = make_problem("sigmoid")
    before = copy.deepcopy(module.state_dict())
    class_hypergradient(
        module,
        regions=regions,
        meta_regions=meta,
        class_weights=torch.ones(K).double(),
        row_losses=inner.row_losses,
        meta_row_losses=outer.row_losses,
        rules={"weight": SGDRule(0.1), "bias": SGDRule(0.1)},
    )
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert module.weight.grad is None


def test_closed_form_is_refused_for_what_is_not_linear():
    module, inner, outer, regions, meta = make_problem("softmax", "cosine")
    with pytest.raises(ValueError, match="closed_form needs nn.Linear, got Cosine"):
        class_hypergradient(
            module,
            regions=regions,
            meta_regions=meta,
            class_weights=torch.ones(K).double(),
            row_losses=inner.row_losses,
            meta_row_losses=outer.row_losses,
            rules={},
            closed_form=True,
        )


def test_only_sgd_can_be_repeated():
    module = nn.Linear(D, K)
    with pytest.raises(TypeError, match="inner_step 'optimizer'.*got AdamW; use 'sgd'"):
        optimizer_rules(torch.optim.AdamW(module.parameters()), dict(module.named_parameters()))
    with pytest.raises(ValueError, match=r"does not train the classifier parameters \['bias'\]"):
        plain_rules(torch.optim.SGD([module.weight], lr=1.0), dict(module.named_parameters()))


class TestReweighter:
    LABELS = torch.tensor([0, 0, 0, 1, 4, 5, 5])

    def test_starts_at_exactly_one(self):
        histogram = class_histogram(self.LABELS, num_classes=K)
        assert histogram.tolist() == [3, 1, 0, 0, 1]
        weights = ClassReweighter(K)(histogram)
        assert torch.equal(weights, torch.ones(K))

    def test_mean_weight_of_the_foreground_is_one(self):
        reweighter = ClassReweighter(K)
        nn.init.normal_(reweighter.psi)
        weights = reweighter(class_histogram(self.LABELS, num_classes=K))
        rows = region_weights(weights, self.LABELS)
        assert rows[:5].mean().item() == pytest.approx(1.0)
        assert rows[5:].tolist() == [1.0, 1.0]
        ratio = torch.sigmoid(reweighter.psi[0]) / torch.sigmoid(reweighter.psi[1])
        assert (rows[0] / rows[3]).item() == pytest.approx(ratio.item())

    def test_no_foreground_gives_ones_and_no_gradient(self):
        reweighter = ClassReweighter(K)
        nn.init.normal_(reweighter.psi)
        weights = reweighter(torch.zeros(K))
        weights.sum().backward()
        assert torch.equal(weights, torch.ones(K))
        assert torch.equal(reweighter.psi.grad, torch.zeros(K))

    def test_one_class_cannot_be_weighed_against_itself(self):
        """A batch of one class: its weight is 1 whatever psi is."""
        reweighter = ClassReweighter(K).double()
        nn.init.normal_(reweighter.psi)
        weights = reweighter(class_histogram(torch.tensor([2, 2, 5]), num_classes=K))
        (gradient,) = torch.autograd.grad(weights[2], reweighter.psi)
        torch.testing.assert_close(gradient, torch.zeros(K).double(), atol=1e-12, rtol=0)


def test_whole_network_with_batch_norm_against_an_unrolled_step():
    """Images for features; the statistics of batch norm are those of each batch, and stay."""
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 9, K)
    ).double()
    network.train()
    images = [torch.randn(n, 1, 5, 5, dtype=torch.float64) for n in (8, 6)]
    labels = [torch.randint(0, K, (n,)) for n in (8, 6)]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    loss = Criterion("softmax_ce").row_losses
    weights = torch.rand(8, dtype=torch.float64)
    ours = row_hypergradient(
        network,
        regions=Regions(images[0], labels[0]),
        meta_regions=Regions(images[1], labels[1]),
        row_weights=weights,
        row_losses=loss,
        meta_row_losses=loss,
        rules={name: SGDRule(lr=0.3) for name, _ in network.named_parameters()},
    )
    assert all(torch.equal(buffers[name], buffer) for name, buffer in network.named_buffers())

    twin = copy.deepcopy(network)
    weights.requires_grad_()
    params = dict(twin.named_parameters())
    inner = (weights * loss(twin(images[0]), labels[0])).mean()
    grads = torch.autograd.grad(inner, list(params.values()), create_graph=True)
    stepped = {n: p - 0.3 * g for (n, p), g in zip(params.items(), grads)}
    # A twin each: batch norm writes to its buffers, which the first graph still needs.
    meta_logits = functional_call(copy.deepcopy(network), stepped, (images[1],))
    (expected,) = torch.autograd.grad(loss(meta_logits, labels[1]).mean(), weights)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-12)
    assert expected.abs().min() > 1e-8


class CosineLinear(nn.Linear):
    """A subclass whose output is not that of its base."""

    def forward(self, features):
        normal = nn.functional.normalize
        return 5 * nn.functional.linear(normal(features), normal(self.weight), self.bias)


def weight_norm(module: nn.Linear) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(module)


def as_cosine(module: nn.Linear) -> nn.Module:
    cosine = CosineLinear(module.in_features, module.out_features).double()
    cosine.load_state_dict(module.state_dict())
    return cosine


@pytest.mark.parametrize("make", [weight_norm, as_cosine])
def test_linear_classifiers_that_do_more_are_not_taken_for_plain_ones(make):
    """Weight normalisation has no weight among its parameters, and no forward mode in torch."""
    torch.manual_seed(0)
    module, inner, outer, regions, meta = make_problem("softmax")
    module = make(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    arguments = {
        "regions": regions,
        "meta_regions": meta,
        "row_losses": inner.row_losses,
        "meta_row_losses": outer.row_losses,
        "rules": plain_rules(optimizer, dict(module.named_parameters())),
    }
    weights = torch.rand(10, dtype=torch.float64)
    found = row_hypergradient(module, row_weights=weights, **arguments)
    assert found.abs().max() > 0

    weights.requires_grad_()
    params = dict(module.named_parameters())
    logits = functional_call(module, params, (regions.features,))
    loss = (weights * inner.row_losses(logits, regions.labels)).mean()
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    stepped = {name: p - 0.3 * g for (name, p), g in zip(params.items(), grads)}
    meta_logits = functional_call(module, stepped, (meta.features,))
    outer.row_losses(meta_logits, meta.labels).mean().backward()
    torch.testing.assert_close(found, weights.grad)
