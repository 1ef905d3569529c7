"""Meta Sampler: learned class rates of the training batches.

Source: Ren et al., arXiv:2007.10740, section 3.2 and appendix B.1. There a batch is drawn by b
straight-through Gumbel-softmax draws over all n images, a matrix of b x n. An image's rate is its
class's, so drawing the class and then one of its images evenly is the same distribution. (The
gradient is not: a Gumbel-softmax over classes instead of images pulls to the frequent ones.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_det.meta.hypergradient import Regions, row_hypergradient
from lt_det.meta.meta_learner import ClassifierStage, InnerStep, MetaLearner
from lt_det.meta.ranks import average_over_ranks
from lt_det.meta.sgd_rule import SGDRule

Estimator = Literal["score", "gumbel"]

#: Gumbel variables that are held at once, of the b x n of a batch.
_MAX_NOISE = 2**22


class MetaSampler(MetaLearner):
    """Class rates ``sigmoid(psi)`` of the sampler, and their optimizer.

    An image of class j is drawn in proportion to its rate, so a class in proportion to ``n_j``
    times its rate: equal rates draw images evenly. Losses are not weighted: the batch is drawn.
    """

    learned, weighs_losses = "rate", False

    def __init__(
        self,
        class_counts: Tensor,
        *,
        lr: float = 0.01,
        betas: Sequence[float] = (0.9, 0.999),
        inner_step: InnerStep = "sgd",
        estimator: Estimator = "score",
        temperature: float = 1.0,
        init_power: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start from rates that fall with the class counts.

        Args:
            class_counts: ``(K,)`` images of each class, positive.
            lr: of Adam. Paper and release: 0.01; the release has 0.001 for ImageNet-LT and
                Places-LT.
            betas: of Adam; (0.9, 0.99) in the paper's appendix, Adam's default in the release.
            inner_step: see :class:`~lt_det.meta.meta_reweighter.MetaReweighter`.
            estimator: how a draw depends on psi. "score": its probability divided by itself, as
                in importance sampling; its mean over all batches is the derivative of the
                expected meta loss up to terms of second order in the inner step. "gumbel": as in
                the paper and its release, the soft value of a straight-through Gumbel-softmax
                draw over all images; biased, and takes time in proportion to their number.
            temperature: of "gumbel"; 1 in the release, not given in the paper.
            init_power: p of the first rates, in proportion to ``n_j^-p`` with the largest and
                the smallest adding up to 1: 0 is 0.5 for all. Release: 0 (CIFAR), 0.1
                (ImageNet-LT), 0.3 (Places-LT).
            device: where psi lives.

        Raises:
            ValueError: if a parameter is out of range.
        """
        if estimator not in ("score", "gumbel"):
            raise ValueError(f"estimator must be 'score' or 'gumbel', got {estimator!r}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not bool((class_counts > 0).all()):
            raise ValueError("class_counts must be positive: a class without images has no rate")
        counts = class_counts.double()
        first = (counts / counts.sum()) ** -init_power
        rates = first / (first.min() + first.max())
        psi = nn.Parameter(torch.logit(rates).float().to(device))
        super().__init__(psi, lr=lr, betas=betas, inner_step=inner_step)
        self._counts = class_counts.long().to(psi.device)
        self._log_counts = counts.log().to(psi)
        self._estimator, self._temperature = estimator, temperature

    @torch.no_grad()
    def rates(self) -> Tensor:
        """Return ``(K,)`` rates in (0, 1)."""
        return torch.sigmoid(self.psi)

    @torch.no_grad()
    def class_probabilities(self) -> Tensor:
        """Return ``(K,)``, how likely a draw is of each class; sums to 1."""
        return self._log_probabilities().exp()

    def _log_probabilities(self) -> Tensor:
        return F.log_softmax(self._log_counts + F.logsigmoid(self.psi), dim=0)

    def draw_weights(self, labels: Tensor) -> Tensor:
        """Return ``(B,)`` ones whose gradient is that of having drawn ``labels``.

        Args:
            labels: ``(B,)`` int64 in [0, K), drawn with :meth:`class_probabilities`.
        """
        log_probabilities = self._log_probabilities()
        if self._estimator == "score":
            log_weights = log_probabilities[labels]
            return torch.exp(log_weights - log_weights.detach())
        log_rates = F.logsigmoid(self.psi)
        slopes = gumbel_slopes(
            log_rates.detach(), self._counts, labels, temperature=self._temperature
        )
        # The value of the hard draw, the gradient of the soft one.
        return 1 + slopes @ (log_rates - log_rates.detach())

    def stage_gradient(
        self, stage: ClassifierStage, meta_regions: Regions, rules: Mapping[str, SGDRule]
    ) -> Tensor | None:
        """See :meth:`MetaLearner.stage_gradient`."""
        with torch.enable_grad():
            weights = self.draw_weights(stage.regions.labels)
        per_row = row_hypergradient(
            stage.classifier,
            regions=stage.regions,
            meta_regions=meta_regions,
            row_weights=weights,
            row_losses=stage.row_losses,
            meta_row_losses=stage.meta_row_losses,
            rules=rules,
        )
        (gradient,) = torch.autograd.grad(weights, self.psi, grad_outputs=per_row.to(weights))
        average_over_ranks([gradient])
        return gradient


@torch.no_grad()
def gumbel_slopes(
    log_rates: Tensor, class_counts: Tensor, labels: Tensor, *, temperature: float
) -> Tensor:
    """Return ``(B, K)``, how the soft value of each drawn image moves with the log of the rates.

    A straight-through Gumbel-softmax over all n images gives the drawn image the soft value y and
    the images of class k together Y_k; the derivative is ``y (1[k is its class] - Y_k) /
    temperature``. Here the noise is drawn given which image came out on top, so that it may have
    been drawn elsewhere, and for some draws at a time, so that no b x n matrix is held.

    Args:
        log_rates: ``(K,)``.
        class_counts: ``(K,)`` int64.
        labels: ``(B,)`` int64, class of each drawn image.
        temperature: above 0.
    """
    classes = torch.repeat_interleave(torch.arange(class_counts.numel()).to(labels), class_counts)
    first_image = class_counts.cumsum(0) - class_counts
    # Of one image; normalised, so that the largest of the n Gumbel variables is a standard one.
    log_probability = log_rates - torch.logsumexp(class_counts.log() + log_rates, dim=0)
    at_once = max(1, _MAX_NOISE // classes.numel())
    slopes = []
    for drawn in labels.split(at_once):
        noise = log_rates.new_empty(drawn.numel(), classes.numel()).exponential_()
        top = log_rates.new_empty(drawn.numel(), 1).exponential_()
        # Given the top, the others are Gumbel below it (Maddison et al., arXiv:1411.0030): here
        # exp((G - top) / temperature), at most 1.
        mass = (1 + noise / (top * log_probability.exp()[classes])) ** (-1 / temperature)
        # Images of a class are alike, so let the drawn one be the first.
        mass.scatter_(1, first_image[drawn][:, None], 1.0)
        of_class = mass.new_zeros(drawn.numel(), class_counts.numel())
        of_class.index_add_(1, classes, mass)
        soft = of_class / of_class.sum(dim=1, keepdim=True)
        own = F.one_hot(drawn, class_counts.numel())
        slopes.append((own - soft) / of_class.sum(dim=1, keepdim=True) / temperature)
    return torch.cat(slopes) if slopes else log_rates.new_zeros(0, class_counts.numel())
