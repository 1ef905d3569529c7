"""The Meta Reweighter: one Adam step on psi for each batch.

Source: Ren et al., arXiv:2007.10740, section 3.2 and appendix B.2 ("standard" meta loss); the
release's meta loss is the balanced one, because its loss shifts the logits in place.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from lt_det.meta.hypergradient import Regions, RowLosses, class_hypergradient
from lt_det.meta.ranks import sum_over_ranks
from lt_det.meta.reweighter import ClassReweighter, class_histogram, region_weights
from lt_det.meta.sgd_rule import optimizer_rules, plain_rules

InnerStep = Literal["sgd", "optimizer"]


class ClassifierStage(NamedTuple):
    """One classifier with the regions of a batch; a cascade has several.

    Attributes:
        classifier: features -> logits.
        regions: what it is trained on in this iteration.
        meta_regions: what its meta loss is computed on; None where psi is not updated.
        row_losses: training loss of each region.
        meta_row_losses: meta loss of each region.
    """

    classifier: nn.Module
    regions: Regions
    meta_regions: Regions | None
    row_losses: RowLosses
    meta_row_losses: RowLosses


class MetaReweighter:
    """Class weights and their optimizer; the state is checkpointed by its owner.

    After every :meth:`update` psi is the same on all ranks, since it starts equal and moves by
    the same gradient.
    """

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
            ValueError: if ``inner_step`` is unknown.
        """
        if inner_step not in ("sgd", "optimizer"):
            raise ValueError(
                f"LT_DET.META.INNER_STEP must be 'sgd' or 'optimizer', got {inner_step!r}"
            )
        self.reweighter = ClassReweighter(num_classes).to(device)
        self.num_classes = num_classes
        self.optimizer = torch.optim.Adam(
            self.reweighter.parameters(), lr=lr, betas=(float(betas[0]), float(betas[1]))
        )
        self._rules = plain_rules if inner_step == "sgd" else optimizer_rules

    def update(
        self, stages: Sequence[ClassifierStage], optimizer: torch.optim.Optimizer
    ) -> Tensor | None:
        """Move psi by one Adam step; return the gradient ``(K,)``, None if nothing was learned.

        A batch without foreground (on all ranks) says nothing about classes and leaves psi and
        Adam as they are.

        Args:
            stages: classifiers with their regions and meta regions; hypergradients add up.
            optimizer: the one that trains the classifiers; read, never stepped.
        """
        psi = self.reweighter.psi
        total = torch.zeros_like(psi)
        any_foreground = False
        for stage in stages:
            if stage.meta_regions is None:
                continue
            histogram = self._histogram(stage.regions.labels)
            if not bool(histogram.any()):
                continue
            any_foreground = True
            with torch.enable_grad():
                class_weights = self.reweighter(histogram)
            hypergradient = class_hypergradient(
                stage.classifier,
                regions=stage.regions,
                meta_regions=stage.meta_regions,
                class_weights=class_weights,
                row_losses=stage.row_losses,
                meta_row_losses=stage.meta_row_losses,
                rules=self._rules(optimizer, dict(stage.classifier.named_parameters())),
            )
            total += torch.autograd.grad(class_weights, psi, grad_outputs=hypergradient)[0]
        if not any_foreground:
            return None
        if not bool(torch.isfinite(total).all()):
            raise FloatingPointError(
                "the gradient of the Meta Reweighter is not finite; psi was left as it was"
            )
        psi.grad = total
        self.optimizer.step()
        psi.grad = None
        return total

    @torch.no_grad()
    def weigh(self, labels: Tensor) -> Tensor:
        """Return ``(R,)`` weights of regions: mean 1 over the foreground of all ranks, 1 for K."""
        class_weights = self.reweighter(self._histogram(labels))
        return region_weights(class_weights, labels)

    def _histogram(self, labels: Tensor) -> Tensor:
        histogram = class_histogram(labels, num_classes=self.num_classes)
        sum_over_ranks([histogram])
        return histogram

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of psi and of the state of its optimizer."""
        return {
            "psi": self.reweighter.psi.detach().clone(),
            # torch hands out its own tensors, and takes over those it loads.
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: if the number of classes differs.
        """
        psi = self.reweighter.psi
        if state["psi"].shape != psi.shape:
            raise ValueError(
                f"the checkpoint's class weights have shape {tuple(state['psi'].shape)}, this "
                f"model has {self.num_classes} classes (MODEL.ROI_HEADS.NUM_CLASSES)"
            )
        with torch.no_grad():
            psi.copy_(state["psi"])
        self.optimizer.load_state_dict(state["optimizer"])
