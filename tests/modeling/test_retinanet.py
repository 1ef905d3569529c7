"""LongTailRetinaNet is Detectron2's RetinaNet but for the loss."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn

from tests.modeling.small_models import NUM_CLASSES, small_batch, small_config, small_model


def retinanet(*, ours: bool, loss: str = "focal") -> nn.Module:
    cfg: CfgNode = small_config()
    cfg.MODEL.META_ARCHITECTURE = "LongTailRetinaNet" if ours else "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.LT_DET.LOSS = loss
    return small_model(cfg)


def run(model: nn.Module, steps: int = 3) -> tuple[list, list]:
    losses = []
    # The fuser rounds otherwise from the second call of the stock loss on.
    with EventStorage(), torch.jit.optimized_execution(False):
        for _ in range(steps):
            model.zero_grad()
            out = model(small_batch())
            sum(out.values()).backward()
            losses.append({k: v.item() for k, v in out.items()})
    return losses, [p.grad for p in model.parameters() if p.grad is not None]


def test_equals_detectron2_to_the_last_bit():
    stock, ours = retinanet(ours=False), retinanet(ours=True)
    assert set(ours.state_dict()) - set(stock.state_dict()) == {"loss_normalizer"}
    (a, grads_a), (b, grads_b) = run(stock), run(ours)
    assert a == b
    assert len(grads_a) == len(grads_b)
    assert all(torch.equal(x, y) for x, y in zip(grads_a, grads_b))
    with torch.no_grad():
        for x, y in zip(stock.eval()(small_batch()), ours.eval()(small_batch())):
            assert torch.equal(x["instances"].scores, y["instances"].scores)
            assert torch.equal(x["instances"].pred_boxes.tensor, y["instances"].pred_boxes.tensor)


def test_normalizer_is_in_the_checkpoint_and_stock_ones_load():
    first, second = retinanet(ours=True), retinanet(ours=True)
    run(first)
    second.load_state_dict(first.state_dict())
    assert float(second.loss_normalizer) == float(first.loss_normalizer) > 0
    third = retinanet(ours=True)
    third.load_state_dict(retinanet(ours=False).state_dict())
    assert float(third.loss_normalizer) == 0


@pytest.mark.parametrize("loss", ["sigmoid_ce", "eureka"])
def test_other_losses_train(loss):
    model = retinanet(ours=True, loss=loss)
    # halted_focal starts as focal does: no score is above 1/2 at the prior of 0.01
    model.criterion.bind(torch.ones(NUM_CLASSES, dtype=torch.float64), 10)
    losses, _ = run(model, steps=1)
    assert losses != run(retinanet(ours=True), steps=1)[0]


def test_softmax_losses_are_refused():
    with pytest.raises(ValueError, match="kind 'sigmoid'"):
        retinanet(ours=True, loss="softmax_ce")
