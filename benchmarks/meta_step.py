"""Time of the meta step on region features: closed form, forward mode and the unrolled step.

    python benchmarks/meta_step.py

All compute the same gradient; "plain step" is forward, backward and SGD of the classifier without
class weights, the work that any second stage has.
"""

from __future__ import annotations

import torch
from tabulate import tabulate
from timing import Row, median_ms, write_rows
from torch import nn

from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions, class_hypergradient
from lt_det.meta.reweighter import region_weights
from lt_det.meta.sgd_rule import SGDRule


def unrolled(classifier, regions, meta, weights, row_losses, meta_row_losses, lr):
    """Reverse mode through a step that keeps its graph, as `higher` does."""
    weights = weights.clone().requires_grad_()
    params = dict(classifier.named_parameters())
    logits = classifier(regions.features)
    loss = (region_weights(weights, regions.labels) * row_losses(logits, regions.labels)).mean()
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    stepped = {n: p - lr * g for (n, p), g in zip(params.items(), grads)}
    meta_logits = torch.func.functional_call(classifier, stepped, (meta.features,))
    return torch.autograd.grad(meta_row_losses(meta_logits, meta.labels).mean(), weights)[0]


def measure(num_classes: int, *, regions: int = 1024, features: int = 1024) -> dict[str, float]:
    torch.manual_seed(0)
    classifier = nn.Linear(features, num_classes)
    counts = torch.rand(num_classes) * 1000 + 1
    train = Criterion("balanced_sigmoid", class_counts=counts, num_images=100_000).row_losses
    plain = Criterion("sigmoid_ce").row_losses

    def batch() -> Regions:
        labels = torch.randint(0, num_classes, (regions,))
        labels[regions // 4 :] = num_classes  # a quarter is foreground
        return Regions(torch.randn(regions, features), labels)

    inner, outer, weights = batch(), batch(), torch.ones(num_classes)
    rules = {"weight": SGDRule(lr=0.02), "bias": SGDRule(lr=0.02)}
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        train(classifier(inner.features), inner.labels).mean().backward()
        optimizer.step()

    def ours(closed_form: bool) -> torch.Tensor:
        return class_hypergradient(
            classifier,
            regions=inner,
            meta_regions=outer,
            class_weights=weights,
            row_losses=train,
            meta_row_losses=plain,
            rules=rules,
            closed_form=closed_form,
        )

    def release() -> torch.Tensor:
        return unrolled(classifier, inner, outer, weights, train, plain, 0.02)

    torch.testing.assert_close(ours(True), release(), rtol=1e-3, atol=1e-9)
    return median_ms(
        {
            "plain step": step,
            "closed form": lambda: ours(True),
            "forward mode": lambda: ours(False),
            "unrolled": release,
        }
    )


def main() -> None:
    measured = {num_classes: measure(num_classes) for num_classes in (80, 1203)}
    rows = [
        Row(
            f"meta gradient, {num_classes:,} classes",
            times["unrolled"],
            times["closed form"],
            "ms",
            baseline_name="unrolled step",
        )
        for num_classes, times in measured.items()
    ]
    names = list(measured[80])
    table = tabulate(
        [[k, *(f"{times[name]:.1f}" for name in names)] for k, times in measured.items()],
        ["classes", *(f"{name} (ms)" for name in names)],
        tablefmt="github",
        disable_numparse=True,
    )
    print(table)
    write_rows(
        "meta_step",
        rows,
        title="Meta step",
        about="The gradient of the meta loss with respect to the class weights, on 1,024 + 1,024 "
        'regions of 1,024 features. "Unrolled" is what the released code\'s `higher` does to the '
        'classifier, without its three detector forwards; "plain step" is the training step '
        "that any second stage has.",
        command="python benchmarks/meta_step.py",
        extra=table,
    )


if __name__ == "__main__":
    main()
