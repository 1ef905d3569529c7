"""Base of Meta Reweighter and Meta Sampler: psi, its optimizer and its checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lt_det.meta.hypergradient import Regions, RowLosses
from lt_det.meta.sgd_rule import SGDRule, optimizer_rules, plain_rules

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


class MetaLearner:
    """A vector psi, one number a class, moved by Adam down the gradient of a meta loss.

    After every :meth:`update` psi is the same on all ranks, since it starts equal and moves by
    the same gradient.

    Attributes:
        learned: what psi stands for, in one word: "weight", "rate".
        weighs_losses: whether :meth:`weigh` gives weights of the real step's losses.
        psi: ``(K,)``; its state and that of the optimizer are checkpointed by the owner.
        num_classes: K.
    """

    learned: str
    weighs_losses: bool

    def __init__(
        self,
        psi: nn.Parameter,
        *,
        lr: float,
        betas: Sequence[float],
        inner_step: InnerStep,
    ) -> None:
        """Start from ``psi``; other arguments as in the subclasses.

        Raises:
            ValueError: if ``inner_step`` is unknown, or ``lr`` or ``betas`` out of range.
        """
        if inner_step not in ("sgd", "optimizer"):
            raise ValueError(f"inner_step must be 'sgd' or 'optimizer', got {inner_step!r}")
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {list(betas)}")
        if not lr > 0.0:
            raise ValueError(f"lr must be above 0, got {lr}")
        self.psi = psi
        self.num_classes = psi.numel()
        self.optimizer = torch.optim.Adam([psi], lr=lr, betas=(float(betas[0]), float(betas[1])))
        self._rules = plain_rules if inner_step == "sgd" else optimizer_rules

    def stage_gradient(
        self, stage: ClassifierStage, meta_regions: Regions, rules: Mapping[str, SGDRule]
    ) -> Tensor | None:
        """Return the gradient ``(K,)`` of a stage's meta loss with respect to psi.

        The same on all ranks; None if the batch says nothing about classes.

        Args:
            stage: classifier with its regions.
            meta_regions: of the stage.
            rules: inner step of each parameter of the classifier.
        """
        raise NotImplementedError

    def weigh(self, labels: Tensor) -> Tensor:
        """Return ``(R,)`` weights of the real step's losses."""
        raise NotImplementedError

    @torch.no_grad()
    def relative_values(self) -> Tensor:
        """Return ``(K,)`` learned values ``sigmoid(psi)`` divided by their mean over classes."""
        values = torch.sigmoid(self.psi)
        return values / values.mean()

    def update(
        self, stages: Sequence[ClassifierStage], optimizer: torch.optim.Optimizer
    ) -> Tensor | None:
        """Move psi by one Adam step; return the gradient ``(K,)``, None if nothing was learned.

        A batch that says nothing about classes (on all ranks) leaves psi and Adam as they are.

        Args:
            stages: classifiers with their regions and meta regions; gradients add up.
            optimizer: the one that trains the classifiers; read, never stepped.

        Raises:
            FloatingPointError: if the gradient is not finite; psi is left as it was.
        """
        total: Tensor | None = None
        for stage in stages:
            if stage.meta_regions is None:
                continue
            rules = self._rules(optimizer, dict(stage.classifier.named_parameters()))
            gradient = self.stage_gradient(stage, stage.meta_regions, rules)
            if gradient is not None:
                total = gradient if total is None else total + gradient
        if total is None:
            return None
        if not bool(torch.isfinite(total).all()):
            raise FloatingPointError(
                f"the gradient of the {type(self).__name__} is not finite; psi was left as it was"
            )
        self.psi.grad = total
        self.optimizer.step()
        self.psi.grad = None
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of psi and of the state of its optimizer."""
        return {
            "psi": self.psi.detach().clone(),
            # torch hands out its own tensors, and takes over those it loads.
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: if the number of classes differs.
        """
        if state["psi"].shape != self.psi.shape:
            raise ValueError(
                f"psi of the checkpoint has shape {tuple(state['psi'].shape)}, this model has "
                f"{self.num_classes} classes (NUM_CLASSES)"
            )
        with torch.no_grad():
            self.psi.copy_(state["psi"])
        self.optimizer.load_state_dict(state["optimizer"])
