"""LongTailRetinaNet and LongTailFCOS are Detectron2's but for the loss."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, LazyCall, instantiate
from detectron2.modeling.backbone import build_backbone
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.utils.events import EventStorage
from torch import nn

from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.losses.criterion import Criterion
from lt_det.modeling.dense.fcos import LongTailFCOS
from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.tasks import build_class_stats
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import (
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

LOSSES = [
    ("sigmoid_ce", {}),
    ("focal", {"GAMMA": 0.0}),
    ("focal", {"ALPHA": 0.5, "GAMMA": 1.0}),
    ("halted_focal", {"MODE": "positives"}),
    ("halted_focal", {"MODE": "p_t"}),
    ("halted_focal", {"MODE": "release"}),
    ("eureka", {}),
]


def config(*, ours: bool = True, loss: str = "focal", **keys: object) -> CfgNode:
    return as_retinanet(small_config(**keys), ours=ours, loss=loss)


def retinanet(*, ours: bool = True, loss: str = "focal", **keys: object) -> nn.Module:
    model = small_model(config(ours=ours, loss=loss, **keys))
    if ours:
        model.criterion.bind(torch.ones(NUM_CLASSES, dtype=torch.float64), 10)
    return model


def fcos(*, ours: bool) -> nn.Module:
    cfg = config()
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    shapes = list(backbone.output_shape().values())
    head = FCOSHead(input_shape=shapes, num_classes=NUM_CLASSES, conv_dims=[16, 16])
    arguments = {
        "backbone": backbone,
        "head": head,
        "num_classes": NUM_CLASSES,
        "test_score_thresh": 0.0,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }
    return LongTailFCOS(criterion=Criterion("focal"), **arguments) if ours else FCOS(**arguments)


def run(model: nn.Module, batch: list[dict] | None = None, *, steps: int = 3) -> tuple:
    losses = []
    # The fuser rounds otherwise from the second call of the stock loss on.
    with EventStorage() as storage, torch.jit.optimized_execution(False):
        for _ in range(steps):
            model.zero_grad()
            out = model(small_batch() if batch is None else batch)
            sum(out.values()).backward()
            losses.append({k: v.item() for k, v in out.items()})
        losses.append(storage.latest()["num_pos_anchors"])
    return losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_equal_to_the_last_bit(stock: nn.Module, ours: nn.Module) -> None:
    for batch in (small_batch(), one_empty(), one_empty()[::-1], small_batch(foreground=False)):
        (a, grads_a), (b, grads_b) = run(stock, batch), run(ours, batch)
        assert a == b
        assert grads_a.keys() == grads_b.keys()
        assert all(torch.equal(grads_a[n], grads_b[n]) for n in grads_a)
    for fast in (None, False):
        ours.fast_inference = fast
        with torch.no_grad():
            outputs = zip(stock.eval()(small_batch()), ours.eval()(small_batch()))
        for x, y in ((x["instances"], y["instances"]) for x, y in outputs):
            assert len(x) > 0
            assert torch.equal(x.scores, y.scores)
            if fast is None:  # equal scores have no order in Detectron2
                values, counts = x.scores.unique(return_counts=True)
                alone = torch.isin(x.scores, values[counts == 1])
                assert alone.any()
                x, y = x[alone], y[alone]
            assert torch.equal(x.pred_classes, y.pred_classes)
            assert torch.equal(x.pred_boxes.tensor, y.pred_boxes.tensor)


def one_empty() -> list[dict]:
    return [small_batch()[0], small_batch(foreground=False)[1]]


@pytest.mark.parametrize("normalizer", ["global", "stock"])
def test_equals_detectron2_to_the_last_bit(normalizer):
    stock = retinanet(ours=False)
    # Detections by Detectron2's code: many scores of an untrained model are equal, and their order
    # is no part of what is promised.
    ours = retinanet(LT_DET__RETINANET__NORMALIZER=normalizer, LT_DET__FAST_INFERENCE=False)
    extra = set(ours.state_dict()) - set(stock.state_dict())
    assert extra == ({"loss_normalizer"} if normalizer == "global" else set())
    assert set(stock.state_dict()) <= set(ours.state_dict())
    assert dict(ours.named_parameters()).keys() == dict(stock.named_parameters()).keys()
    assert_equal_to_the_last_bit(stock, ours)


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_every_box_loss_equals_detectron2_s(kind):
    key = {"MODEL__RETINANET__BBOX_REG_LOSS_TYPE": kind}
    ours = retinanet(LT_DET__FAST_INFERENCE=False, **key)
    assert_equal_to_the_last_bit(retinanet(ours=False, **key), ours)


def test_fcos_equals_detectron2_to_the_last_bit():
    stock, ours = fcos(ours=False), fcos(ours=True)
    (a, grads_a), (b, grads_b) = run(stock), run(ours)
    assert a == b
    assert len(a[0]) == 3
    assert all(torch.equal(grads_a[n], grads_b[n]) for n in grads_a)
    assert float(ours.loss_normalizer) == stock.loss_normalizer
    with torch.no_grad():
        for x, y in zip(stock.eval()(small_batch()), ours.eval()(small_batch())):
            assert torch.equal(x["instances"].scores, y["instances"].scores)


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_model_zoo_s_lazy_config_takes_our_class(name):
    lazy = model_zoo.get_config(f"COCO-Detection/{name}_R_50_FPN_1x.py").model
    lazy._target_ = LongTailFCOS if name == "fcos" else LongTailRetinaNet
    lazy.criterion = LazyCall(Criterion)(name="halted_focal", gamma=1.0)
    lazy.prior_counts = [float(80 - k) for k in range(80)]
    model = instantiate(lazy)
    assert model.criterion.hyperparameters["gamma"] == 1.0
    bias = model.head.cls_score.bias.reshape(-1, 80)
    assert (bias.diff(dim=1) < 0).all()
    assert float(bias.sigmoid().mean()) == pytest.approx(0.01)


def test_normalizer_starts_where_detectron2_s_does():
    stock, ours = retinanet(ours=False), retinanet()
    for model in (stock, ours):
        run(model, steps=2)
    assert float(ours.loss_normalizer) == stock.loss_normalizer


def test_normalizer_is_in_the_checkpoint():
    first, second = retinanet(), retinanet()
    run(first)
    second.load_state_dict(first.state_dict())
    assert float(second.loss_normalizer) == float(first.loss_normalizer) > 0
    # What follows is the same too, and the saved one was not a reference to it.
    assert run(second, steps=1)[0] == run(first, steps=1)[0] != run(retinanet(), steps=1)[0]


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, LongTailCheckpointer])
def test_checkpoints_of_both_kinds_load_without_complaint(checkpointer, tmp_path, caplog):
    stock_key = {"LT_DET__RETINANET__NORMALIZER": "stock"}
    makers = {
        "detectron2": lambda: retinanet(ours=False),
        "global": retinanet,
        "stock": lambda: retinanet(**stock_key),
    }
    for name, make in makers.items():
        model = make()
        run(model, steps=1)
        checkpointer(model, str(tmp_path)).save(name)
    for source in makers:
        for target in ("global", "stock"):
            model = makers[target]()
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                checkpointer(model).load(str(tmp_path / f"{source}.pth"))
            assert not caplog.records, (source, target, caplog.text)
            if target == "global":
                assert (float(model.loss_normalizer) > 0) == (source == "global")
    # The other way, Detectron2 says that it has no use for the normalizer, and loads the rest.
    theirs, ours = retinanet(ours=False), retinanet()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.fill_(7.0)
    incompatible = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert incompatible.unexpected_keys == ["loss_normalizer"]
    assert not incompatible.missing_keys
    assert torch.equal(theirs.head.cls_score.bias, ours.head.cls_score.bias)


@pytest.mark.parametrize(("loss", "parameters"), LOSSES, ids=str)
def test_the_loss_is_the_criterion_over_the_normalizer(loss, parameters):
    """Against the element-wise loss, summed over the anchors that are not ignored."""
    keys = {f"LT_DET__LOSS_PARAMS__{loss.upper()}__{k}": v for k, v in parameters.items()}
    model = retinanet(loss=loss, **keys)
    nn.init.normal_(model.head.cls_score.bias, std=3.0)  # scores on both sides of 1/2
    seen = {}
    inner = model.losses

    def spy(anchors, logits, labels, *rest):
        seen.update(logits=torch.cat(logits, 1), labels=torch.stack(labels))
        return inner(anchors, logits, labels, *rest)

    model.losses = spy
    losses, _ = run(model, steps=1)
    total, positives = 0.0, 0
    for logits, labels in zip(seen["logits"], seen["labels"]):
        targets = torch.zeros(len(labels), NUM_CLASSES + 1)
        targets[torch.arange(len(labels)), labels.clamp(min=0)] = 1.0
        table = model.criterion(logits.detach(), targets[:, :-1])
        total += table[labels >= 0].double().sum()
        positives += int(((labels >= 0) & (labels < NUM_CLASSES)).sum())
    assert positives > 0
    assert (seen["labels"] == -1).any()
    expected = total / (0.9 * 100 + 0.1 * positives)
    assert losses[0]["loss_cls"] == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_multiply_the_rows_of_positives():
    """FL + CB: by hand from the unweighted table."""
    weights = {"LT_DET__CLASS_WEIGHTS__NAME": "inverse_frequency"}
    counts = torch.tensor([60.0, 20, 10, 6, 3, 1], dtype=torch.float64)
    plain, weighted = retinanet(), retinanet(**weights)
    seen = {}
    for model in (plain, weighted):
        model.criterion.bind(counts, 60)
        inner = model.losses

        def spy(anchors, logits, labels, *rest, inner=inner):
            seen.update(logits=torch.cat(logits, 1).flatten(0, 1), labels=torch.cat(labels))
            return inner(anchors, logits, labels, *rest)

        model.losses = spy
    loss_plain, loss = (run(model, steps=1)[0][0]["loss_cls"] for model in (plain, weighted))
    valid = seen["labels"] >= 0
    labels = seen["labels"][valid]
    targets = nn.functional.one_hot(labels, NUM_CLASSES + 1)[:, :-1].float()
    rows = plain.criterion(seen["logits"][valid].detach(), targets).sum(dim=1).double()
    per_class = torch.cat([(1 / counts) / (1 / counts).mean(), torch.ones(1)])
    ratio = (rows * per_class[labels]).sum() / rows.sum()
    assert abs(ratio - 1) > 0.01
    assert loss / loss_plain == pytest.approx(float(ratio), rel=1e-4)


@pytest.mark.parametrize(("loss", "parameters"), LOSSES, ids=str)
def test_autocast_stays_near_float32(loss, parameters):
    keys = {f"LT_DET__LOSS_PARAMS__{loss.upper()}__{k}": v for k, v in parameters.items()}
    exact, _ = run(retinanet(loss=loss, **keys), steps=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, gradients = run(retinanet(loss=loss, **keys), steps=1)
    assert rounded[0]["loss_cls"] == pytest.approx(exact[0]["loss_cls"], rel=0.05)
    assert rounded != exact
    assert all(torch.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize(("loss", "parameters"), LOSSES, ids=str)
def test_batches_without_annotations_train(loss, parameters):
    keys = {f"LT_DET__LOSS_PARAMS__{loss.upper()}__{k}": v for k, v in parameters.items()}
    model = retinanet(loss=loss, **keys)
    losses, gradients = run(model, small_batch(foreground=False), steps=1)
    assert losses[0]["loss_box_reg"] == 0.0
    assert losses[-1][0] == 0.0
    assert float(model.loss_normalizer) == pytest.approx(90.1)
    # Every parameter takes part: DDP waits for the gradients of all of them.
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert gradients.keys() | frozen == dict(model.named_parameters()).keys()
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert gradients["head.cls_score.bias"].abs().sum() > 0
    mixed, gradients = run(model, one_empty(), steps=1)
    assert mixed[0]["loss_box_reg"] > 0
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_the_stock_loss_is_not_computed(monkeypatch):
    """Detectron2's classification loss sees foreground anchors only."""
    from detectron2.modeling.meta_arch import retinanet as module

    sizes = []
    stock = module.sigmoid_focal_loss_jit

    def spy(inputs, *args, **kwargs):
        sizes.append(len(inputs))
        assert not inputs.requires_grad
        return stock(inputs, *args, **kwargs)

    monkeypatch.setattr(module, "sigmoid_focal_loss_jit", spy)
    losses, _ = run(retinanet(), steps=1)
    assert 0 < sizes[0] <= 2 * 2 * losses[-1][0]  # 2 images, the union of their anchors


def test_class_prior_is_the_score_of_each_class_at_every_anchor():
    counts = torch.tensor([60.0, 20, 10, 6, 3, 1])
    cfg = config()
    cfg.MODEL.RETINANET.PRIOR_PROB = 0.02
    arguments = type(small_model(cfg)).from_config(cfg)
    model = LongTailRetinaNet(**{**arguments, "prior_counts": counts})
    bias = model.head.cls_score.bias
    anchors = model.anchor_generator.num_cell_anchors[0]
    assert anchors > 1
    expected = 0.02 * counts / counts.mean()
    torch.testing.assert_close(bias.sigmoid(), expected.repeat(anchors))
    # As the head lays them out: scores of an image whose features are all zero.
    nn.init.zeros_(model.head.cls_score.weight)
    seen = {}
    model.losses = lambda _, logits, *__: seen.update(logits=logits) or {}
    model.train()(small_batch())
    for level in seen["logits"]:
        torch.testing.assert_close(level.sigmoid(), expected.expand_as(level))
    # Equal counts are the constant prior.
    equal = LongTailRetinaNet(**{**arguments, "prior_counts": torch.full((NUM_CLASSES,), 7.0)})
    stock = small_model(cfg).head.cls_score.bias
    torch.testing.assert_close(equal.head.cls_score.bias, stock)


def test_class_prior_counts_the_training_set(tmp_path):
    cfg = as_retinanet(tiny_config(tmp_path))
    assert len(set(small_model(cfg).head.cls_score.bias.tolist())) == 1
    cfg.LT_DET.PRIOR = "class"
    bias = small_model(cfg).head.cls_score.bias
    scores = bias.sigmoid().reshape(-1, NUM_CLASSES)
    # 8 images: class k is in every 2^k-th; the last two in none or one, counted as one
    counts = torch.from_numpy(build_class_stats(cfg).counts("image")).float()
    assert counts[0] == 8 > counts[1] > counts[2]
    torch.testing.assert_close(scores, (0.01 * counts / counts.mean()).expand_as(scores))


@pytest.mark.parametrize("loss", ["softmax_ce", "balanced_softmax", "softmax_focal"])
def test_softmax_losses_are_refused(loss):
    with pytest.raises(ValueError, match=r"kind 'sigmoid', got .*LT_DET\.LOSS"):
        small_model(config(loss=loss))


def test_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match=r"LT_DET\.RETINANET\.NORMALIZER.*'mean'"):
        small_model(config(LT_DET__RETINANET__NORMALIZER="mean"))


@pytest.mark.parametrize("name", ["ALPHA", "GAMMA"])
def test_focal_keys_of_detectron2_are_refused(name):
    """They would have no effect."""
    cfg = config()
    cfg.MODEL.RETINANET[f"FOCAL_LOSS_{name}"] = 0.7
    with pytest.raises(ValueError, match=rf"LT_DET\.LOSS_PARAMS\.FOCAL\.{name}"):
        small_model(cfg)


def test_another_detectron2_without_the_moving_average_is_named():
    model = retinanet()
    model._ema_update = lambda *_: 1.0
    with pytest.raises(RuntimeError, match="_ema_update"):
        run(model, steps=1)
