"""The meta loss teaches the right columns, whatever columns and scores a loss has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lt_det.engine.meta.step_model import MetaStepModel
from lt_det.engine.regions.classifier import RegionClassifier
from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions
from lt_det.meta.meta_learner import ClassifierStage
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.modeling.classifiers.classification_head import ClassificationHead

#: Two classes in each of the two groups that the bounds of "bags" make; below, sure is a logit.
COUNTS, K, SURE = [80.0, 40.0, 5.0, 2.0], 4, 60.0
GROUP_OF = [1, 1, 0, 0]
PARAMETERS = {"bags": {"bounds": (10.0,)}, "ldam": {"scale": 1.0}}


def stage_of(loss: str, meta_loss: str, *, background: bool) -> ClassifierStage:
    """Return what the meta learner gets of a classifier of one feature a column."""
    counted = background and LOSSES[loss].counts_background
    head = ClassificationHead()
    head.criterion = Criterion(
        loss,
        class_counts=[*COUNTS, 50.0] if counted else COUNTS,
        num_images=100,
        **PARAMETERS.get(loss, {}),
    )
    others = head.criterion.extra_columns(background=background)
    head.has_background = "background" in others
    head.criterion.fit_head(K, background=background)
    head.cls_score = nn.Linear(1, K + len(others))
    model = MetaStepModel(
        RegionClassifier(nn.ModuleDict({"head": head})),
        meta=MetaReweighter(K),
        meta_batches=list,
        optimizer=torch.optim.SGD(head.parameters(), lr=0.1),
        meta_loss=meta_loss,
    )
    regions = Regions(torch.zeros(1, 1), torch.tensor([0]))
    return model._stage(head, head.cls_score, regions, regions)


def directions(loss: str, label: int, *, background: bool) -> Tensor:
    """Return 1 for columns that a row of a label asks for, -1 for those against it, else 0."""
    spec = LOSSES[loss]
    keys = {**spec.hyperparameters(), **PARAMETERS.get(loss, {})}
    found = [1.0 if c == label else -1.0 for c in range(K)]
    if loss == "seesaw" and label == K:
        found = [0.0] * K  # only objectness speaks of the background
    for column in spec.extra_columns(background=background, **keys):
        right = (label == K) == (column == "background")
        if column.startswith("others"):
            right = label == K or GROUP_OF[label] != int(column.removeprefix("others"))
        found.append(1.0 if right else -1.0)
    return torch.tensor([found])


@pytest.mark.parametrize("background", [True, False], ids=["detector", "images"])
@pytest.mark.parametrize("meta_loss", ["plain", "balanced"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_taught_the_right_columns(loss, meta_loss, background):
    losses = stage_of(loss, meta_loss, background=background).meta_row_losses
    for label in range(K + background):
        right, labels = directions(loss, label, background=background), torch.tensor([label])
        if meta_loss == "plain":
            assert losses(SURE * right, labels) < 1e-6
            assert losses(-SURE * right, labels) > 50
        logits = torch.zeros_like(right).requires_grad_()
        (gradient,) = torch.autograd.grad(losses(logits, labels).sum(), logits)
        if meta_loss == "plain":
            assert torch.equal(-gradient.sign(), right)
        # A correction may spare a column, draws may leave it out; none turns it round.
        assert (gradient * right <= 0).all()
        assert (gradient[right > 0] < 0).any() or not (right > 0).any()


def test_a_loss_with_unknown_scores_is_refused(monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", replace(LOSSES["gumbel"], plain=None))
    with pytest.raises(ValueError, match=r"LT_DET.LOSS 'mine' .*set LT_DET.META.LOSS 'balanced'"):
        stage_of("mine", "plain", background=True)
    assert stage_of("mine", "balanced", background=True)
