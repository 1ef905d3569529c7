r"""Gradient of a meta loss with respect to class weights, through one step of a classifier.

The inner step is ``theta' = U(theta, g)`` with ``g = (1/R) sum_r w_r grad l_r(theta)``, the meta
loss ``L(theta')``. Since ``U`` is affine in ``g`` with slope ``u`` (``-lr`` for plain SGD),

    dL/dw_r = (u / R) <G, grad l_r(theta)>,    G = grad L(theta'),

so no second-order graph is needed: the bracket is the derivative of ``l_r`` along ``G``. For a
linear classifier it is ``e_r . (G_W f_r + G_b)`` with ``e_r`` the gradient of ``l_r`` with respect
to the logits; for any other it is one forward-mode derivative.

Derived from Ren et al., arXiv:2007.10740, Eq. 13; the release unrolls the step with `higher`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from lt_det.meta.ranks import average_over_ranks
from lt_det.meta.reweighter import region_weights
from lt_det.meta.sgd_rule import SGDRule

Params = Mapping[str, Tensor]
#: (logits, labels) -> (R,) losses.
RowLosses = Callable[[Tensor, Tensor], Tensor]


class Regions(NamedTuple):
    """Training data of a classifier: features ``(R, D)`` and labels ``(R,)`` in [0, K].

    ``hidden`` ``(R, K)`` bool are the classes that the lists of a region's image hide from its
    losses, see :mod:`lt_det.losses.image_lists`; None hides none. It is the row losses that obey.
    """

    features: Tensor
    labels: Tensor
    hidden: Tensor | None = None


def class_hypergradient(
    classifier: nn.Module,
    *,
    regions: Regions,
    meta_regions: Regions,
    class_weights: Tensor,
    row_losses: RowLosses,
    meta_row_losses: RowLosses,
    rules: Mapping[str, SGDRule],
    closed_form: bool | None = None,
) -> Tensor:
    """Return ``(K,)``, the gradient of the meta loss with respect to class weights.

    With several ranks every rank gets the same result, see :func:`row_hypergradient`.

    Args:
        classifier: features ``(R, D)`` -> logits.
        regions: batch of the inner step.
        meta_regions: class-balanced batch of the meta loss.
        class_weights: ``(K,)`` weights of the inner losses; the background has weight 1.
        row_losses: training loss of each region, unweighted.
        meta_row_losses: loss of each meta region.
        rules: for each parameter of the classifier, the inner step.
        closed_form: see :func:`row_hypergradient`.
    """
    per_row = row_hypergradient(
        classifier,
        regions=regions,
        meta_regions=meta_regions,
        row_weights=region_weights(class_weights.detach(), regions.labels),
        row_losses=row_losses,
        meta_row_losses=meta_row_losses,
        rules=rules,
        closed_form=closed_form,
    )
    result = class_weights.new_zeros(class_weights.shape[0] + 1)
    result = result.index_add(0, regions.labels, per_row.to(result))[:-1]
    average_over_ranks([result])
    return result


def row_hypergradient(
    classifier: nn.Module,
    *,
    regions: Regions,
    meta_regions: Regions,
    row_weights: Tensor,
    row_losses: RowLosses,
    meta_row_losses: RowLosses,
    rules: Mapping[str, SGDRule],
    closed_form: bool | None = None,
) -> Tensor:
    """Return ``(R,)``, the gradient of the meta loss with respect to the weight of each row.

    The parameters and buffers of the classifier are not changed; it may be a whole network, with
    images for features. With several ranks the result is that of this rank's rows in one process
    on the union of the batches, times the number of ranks, provided that ranks hold equally many
    rows, as DDP assumes too: the classifier's two gradients are averaged over ranks.

    Args:
        classifier: features ``(R, D)`` -> logits.
        regions: batch of the inner step.
        meta_regions: class-balanced batch of the meta loss.
        row_weights: ``(R,)`` weights of the inner losses.
        row_losses: training loss of each row, unweighted.
        meta_row_losses: loss of each meta row.
        rules: for each parameter of the classifier, the inner step.
        closed_form: None takes the closed form for a plain ``nn.Linear`` and forward mode for all
            else.

    Raises:
        ValueError: if ``closed_form`` is asked of a classifier that is not ``nn.Linear``.
    """
    # Neither a subclass that does more, nor weight normalisation or another parametrisation.
    linear = (
        isinstance(classifier, nn.Linear)
        and type(classifier).forward is nn.Linear.forward
        and not is_parametrized(classifier)
    )
    if closed_form is None:
        closed_form = linear
    if closed_form and not linear:
        raise ValueError(
            f"closed_form needs nn.Linear, got {type(classifier).__name__}; use closed_form=None"
        )
    params = {name: p.detach() for name, p in classifier.named_parameters()}
    weights = row_weights.detach()
    # Normalise by all regions, background included, as the head does.
    num_regions = max(regions.labels.numel(), 1)
    num_meta = max(meta_regions.labels.numel(), 1)
    even = torch.full_like(meta_regions.labels, 1.0 / num_meta, dtype=weights.dtype)
    if closed_form:
        # The inner errors serve twice: for the step, and for the derivative along its outcome.
        errors = _logit_gradients(params, regions, row_losses)
        inner = _linear_gradient(params, regions, errors * (weights / num_regions)[:, None])
    else:
        inner = _module_gradient(classifier, params, regions, row_losses, weights / num_regions)
    average_over_ranks(inner.values())
    stepped = {name: rules[name].step(params[name], inner[name]) for name in params}

    if closed_form:
        meta_errors = _logit_gradients(stepped, meta_regions, meta_row_losses)
        outer = _linear_gradient(stepped, meta_regions, meta_errors * even[:, None])
    else:
        outer = _module_gradient(classifier, stepped, meta_regions, meta_row_losses, even)
    average_over_ranks(outer.values())

    direction = {name: rules[name].slope() * outer[name] for name in params}
    if closed_form:
        moved = F.linear(regions.features, direction["weight"], direction.get("bias"))
        per_row = (errors * moved).sum(dim=1)
    else:
        per_row = _module_derivative(classifier, params, regions, row_losses, direction)
    return per_row / num_regions


def _call(classifier: nn.Module, params: Params, features: Tensor) -> Tensor:
    # Batch norm writes to its buffers in the forward; these are copies, made inside of forward
    # mode, which allows no writing to what comes from outside.
    buffers = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
    return functional_call(classifier, {**params, **buffers}, (features,))


def _logit_gradients(params: Params, regions: Regions, row_losses: RowLosses) -> Tensor:
    """Return ``(R, C)`` gradients of each row's loss with respect to its logits."""
    with torch.enable_grad():
        logits = F.linear(regions.features, params["weight"], params.get("bias"))
        logits = logits.detach().requires_grad_()
        (errors,) = torch.autograd.grad(row_losses(logits, regions.labels).sum(), logits)
    return errors


def _linear_gradient(params: Params, regions: Regions, errors: Tensor) -> dict[str, Tensor]:
    """Return the gradient of a linear classifier from the ``(R, C)`` gradients of its logits."""
    grads = {"weight": errors.t() @ regions.features}
    if "bias" in params:
        grads["bias"] = errors.sum(dim=0)
    return grads


def _module_gradient(
    classifier: nn.Module,
    params: Params,
    regions: Regions,
    row_losses: RowLosses,
    weights: Tensor,
) -> dict[str, Tensor]:
    """Return the gradient of ``sum_r weights_r l_r`` with respect to any classifier."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        logits = _call(classifier, leaves, regions.features)
        loss = (weights * row_losses(logits, regions.labels)).sum()
        grads = torch.autograd.grad(loss, list(leaves.values()))
    return dict(zip(leaves, grads))


def _module_derivative(
    classifier: nn.Module,
    params: Params,
    regions: Regions,
    row_losses: RowLosses,
    direction: Params,
) -> Tensor:
    """Return ``(R,)`` derivatives of each row's loss along ``direction``.

    By forward mode, or where an operation of the classifier has none (weight normalisation) by two
    reverse passes.
    """

    def losses(point: Params) -> Tensor:
        logits = _call(classifier, point, regions.features)
        return row_losses(logits, regions.labels)

    try:
        return jvp(losses, (dict(params),), (dict(direction),))[1]
    except NotImplementedError:
        pass
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        per_row = losses(leaves)
        weights = torch.ones_like(per_row).requires_grad_()
        grads = torch.autograd.grad(
            (weights * per_row).sum(), list(leaves.values()), create_graph=True
        )
        products = [(g * direction[name]).sum() for name, g in zip(leaves, grads)]
        along = torch.stack(products).sum()
        return torch.autograd.grad(along, weights)[0]
