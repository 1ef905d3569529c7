"""Meta Reweighter: one Adam step on psi for each batch.

Source: Ren et al., arXiv:2007.10740, section 3.2 and appendix B.2 ("standard" meta loss); the
release's meta loss is the balanced one, because its loss shifts the logits in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lt_det.meta.hypergradient import Regions, class_hypergradient
from lt_det.meta.meta_learner import ClassifierStage, InnerStep, MetaLearner
from lt_det.meta.ranks import sum_over_ranks
from lt_det.meta.reweighter import ClassReweighter, class_histogram, region_weights
from lt_det.meta.sgd_rule import SGDRule


class MetaReweighter(MetaLearner):
    """Class weights of the loss, and their optimizer."""

    learned, weighs_losses = "weight", True

    def __init__(
        self,
        num_classes: int,
        *,
        lr: float = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        inner_step: InnerStep = "sgd",
        device: torch.device | str = "cpu",
    ) -> None:
        """Start from equal class weights.

        Args:
            num_classes: K, foreground classes.
            lr: of Adam. The paper has 0.001 for LVIS, its release 0.01.
            betas: of Adam. The paper's appendix has (0.9, 0.99) for the Meta Sampler, both
                releases use Adam's default.
            inner_step: "sgd" is one plain gradient step at the present learning rate; "optimizer"
                repeats the classifier's optimizer with momentum and weight decay (the release).
            device: where psi lives.

        Raises:
            ValueError: if ``inner_step`` is unknown, or ``lr`` or ``betas`` out of range.
        """
        self.reweighter = ClassReweighter(num_classes).to(device)
        super().__init__(self.reweighter.psi, lr=lr, betas=betas, inner_step=inner_step)

    def stage_gradient(
        self, stage: ClassifierStage, meta_regions: Regions, rules: Mapping[str, SGDRule]
    ) -> Tensor | None:
        """See :meth:`MetaLearner.stage_gradient`; None for a batch without foreground."""
        histogram = self._histogram(stage.regions.labels)
        if not bool(histogram.any()):
            return None
        with torch.enable_grad():
            class_weights = self.reweighter(histogram)
        hypergradient = class_hypergradient(
            stage.classifier,
            regions=stage.regions,
            meta_regions=meta_regions,
            class_weights=class_weights,
            row_losses=stage.row_losses,
            meta_row_losses=stage.meta_row_losses,
            rules=rules,
        )
        return torch.autograd.grad(class_weights, self.psi, grad_outputs=hypergradient)[0]

    @torch.no_grad()
    def weigh(self, labels: Tensor) -> Tensor:
        """Return ``(R,)`` weights of regions: mean 1 over the foreground of all ranks, 1 for K."""
        class_weights = self.reweighter(self._histogram(labels))
        return region_weights(class_weights, labels)

    def _histogram(self, labels: Tensor) -> Tensor:
        histogram = class_histogram(labels, num_classes=self.num_classes)
        sum_over_ranks([histogram])
        return histogram
