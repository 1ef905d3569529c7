"""LongTailMaskHead against Detectron2's: one mask a region, the same result."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from lt_det.data.warn_once import warn_once
from lt_det.modeling.roi.mask_head import LongTailMaskHead, region_logits
from tests.modeling.small_models import (
    NUM_CLASSES,
    LargestTensor,
    small_batch,
    small_config,
    small_model,
)

CHANNELS = 8


def make_pair(num_classes: int, **kwargs):
    """Detectron2's head and ours with the same parameters, which are not near 0."""
    torch.manual_seed(0)
    shape = ShapeSpec(channels=CHANNELS, height=5, width=5)
    stock = MaskRCNNConvUpsampleHead(shape, num_classes=num_classes, conv_dims=[8, 8], **kwargs)
    torch.nn.init.normal_(stock.predictor.weight, std=0.3)
    torch.nn.init.normal_(stock.predictor.bias)
    ours = LongTailMaskHead(shape, num_classes=num_classes, conv_dims=[8, 8], **kwargs)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def make_instances(classes: list[list[int]], *, training: bool) -> list[Instances]:
    instances = []
    for labels in classes:
        i = Instances((40, 40))
        corners = torch.rand(len(labels), 2) * 15
        boxes = Boxes(torch.cat([corners, corners + 20], dim=1))
        kind = torch.tensor(labels, dtype=torch.int64)
        if training:
            i.proposal_boxes, i.gt_classes = boxes, kind
            i.gt_masks = BitMasks(torch.rand(len(labels), 40, 40) > 0.4)
        else:
            i.pred_boxes, i.pred_classes = boxes, kind
        instances.append(i)
    return instances


CLASSES = {
    "two classes": (2, [[1, 0, 1], [0]]),
    "one class of many": (30, [[29, 29], [29, 29, 29]]),
    "an image without": (7, [[], [6, 0, 3, 3]]),
    "no regions": (5, [[], []]),
    "lvis": (1203, [[0, 1202, 601, 7], [7, 1202]]),
}


def train(head, features, instances):
    head.train()
    features = features.clone().requires_grad_()
    with EventStorage() as storage:
        losses = head(features, instances)
        assert list(losses) == ["loss_mask"]
        losses["loss_mask"].backward()
        logged = {name: value for name, (value, _) in storage.latest().items()}
    gradients = {name: p.grad for name, p in head.named_parameters()}
    return losses["loss_mask"].detach(), {**gradients, "features": features.grad}, logged


@pytest.mark.parametrize("case", CLASSES)
def test_training_equals_detectron2(case):
    num_classes, classes = CLASSES[case]
    stock, ours = make_pair(num_classes, loss_weight=3.0)
    features = torch.randn(sum(map(len, classes)), CHANNELS, 5, 5)
    instances = make_instances(classes, training=True)
    loss, gradients, logged = train(stock, features, instances)
    our_loss, our_gradients, our_logged = train(ours, features, instances)
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=1e-7)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # None for none: DDP waits for the gradient of every parameter.
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
    used = sorted({c for labels in classes for c in labels})
    assert our_gradients["predictor.weight"].flatten(1).any(1).nonzero()[:, 0].tolist() == used
    assert our_logged == logged
    assert len(logged) == (3 if used else 0)


def test_an_image_without_regions_needs_no_fields():
    stock, ours = make_pair(4)
    instances = [Instances((40, 40)), *make_instances([[3, 1]], training=True)]
    instances[0].proposal_boxes = Boxes(torch.zeros(0, 4))
    features = torch.randn(2, CHANNELS, 5, 5)
    loss, _, _ = train(stock, features, instances)
    our_loss, _, _ = train(ours, features, instances)
    torch.testing.assert_close(our_loss, loss)


@pytest.mark.parametrize("case", CLASSES)
def test_inference_equals_detectron2(case):
    num_classes, classes = CLASSES[case]
    stock, ours = make_pair(num_classes)
    features = torch.randn(sum(map(len, classes)), CHANNELS, 5, 5)
    instances = make_instances(classes, training=False)
    with torch.no_grad():
        expected = stock.eval()(features, copy.deepcopy(instances))
        result = ours.eval()(features, instances)
    assert result is instances
    for image, labels, wanted in zip(result, classes, expected):
        assert image.pred_masks.shape == (len(labels), 1, 10, 10)
        torch.testing.assert_close(image.pred_masks, wanted.pred_masks, rtol=0, atol=1e-6)


def test_gradient_is_that_of_the_formula():
    predictor = torch.nn.Conv2d(3, 4, 1).double()
    features = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    classes = torch.tensor([3, 0, 3, 1, 3])

    def of_parameters(features, weight, bias):
        predictor.weight.data, predictor.bias.data = weight.data, bias.data
        return torch.func.functional_call(
            _Call(predictor, classes), {"p.weight": weight, "p.bias": bias}, (features,)
        )

    parameters = [p.detach().clone().requires_grad_() for p in predictor.parameters()]
    assert torch.autograd.gradcheck(of_parameters, (features, *parameters))
    logits = region_logits(features, classes, predictor=predictor)
    for r, c in enumerate(classes.tolist()):
        for i in range(2):
            for j in range(2):
                pixel = features[r, :, i, j] @ predictor.weight[c, :, 0, 0] + predictor.bias[c]
                torch.testing.assert_close(logits[r, 0, i, j], pixel)
    without = torch.nn.Conv2d(3, 4, 1, bias=False).double()
    torch.testing.assert_close(
        region_logits(features, classes, predictor=without)[:, 0],
        without(features)[torch.arange(5), classes],
    )


class _Call(torch.nn.Module):
    def __init__(self, predictor, classes):
        super().__init__()
        self.p, self.classes = predictor, classes

    def forward(self, features):
        return region_logits(features, self.classes, predictor=self.p)


@pytest.mark.parametrize("training", [True, False])
def test_no_tensor_has_all_masks(training):
    """R x K x S x S numbers exist in Detectron2's head and nowhere in ours."""
    num_classes, classes = 500, [[0, 499, 3], [3]]
    features = torch.randn(4, CHANNELS, 5, 5)
    largest = []
    for head in make_pair(num_classes):
        head.train(training)
        instances = make_instances(classes, training=training)
        with EventStorage(), LargestTensor() as mode:
            result = head(features, instances)
            if training:
                result["loss_mask"].backward()
        largest.append(mode.elements)
    all_masks = 4 * num_classes * 10 * 10
    assert largest[0] == all_masks
    # What is left: the parameter, the regions' features, the ground truth's bitmaps.
    assert largest[1] <= max(num_classes * CHANNELS, 4 * CHANNELS * 10 * 10, 4 * 40 * 40)


def test_class_agnostic_is_detectron2_s_head(caplog):
    stock, ours = make_pair(1)
    features = torch.randn(3, CHANNELS, 5, 5)
    instances = make_instances([[4, 2], [0]], training=True)
    with caplog.at_level(logging.WARNING):
        loss, gradients, _ = train(stock, features, instances)
        our_loss, our_gradients, _ = train(ours, features, instances)
    assert torch.equal(our_loss, loss)
    assert all(torch.equal(our_gradients[name], g) for name, g in gradients.items())
    assert not caplog.records


def with_weight_norm(head):
    head.predictor = torch.nn.utils.weight_norm(head.predictor)


def with_parametrization(head):
    torch.nn.utils.parametrizations.weight_norm(head.predictor)


def with_wide_kernel(head):
    head.predictor = torch.nn.Conv2d(8, 6, 3)


def with_activation(head):
    head.predictor.activation = torch.nn.ReLU()


def with_another_layer(head):
    head.predictor = torch.nn.Sequential(head.predictor, torch.nn.Hardtanh())


@pytest.mark.parametrize(
    "change",
    [with_weight_norm, with_parametrization, with_wide_kernel, with_activation, with_another_layer],
)
def test_another_predictor_is_called_as_it_is(change, caplog):
    stock, ours = make_pair(6)
    change(stock)
    ours.predictor = stock.predictor
    features = torch.randn(3, CHANNELS, 5, 5)
    instances = make_instances([[4, 2], [5]], training=True)
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        loss, _, _ = train(stock, features, instances)
        for _ in range(2):
            our_loss, _, _ = train(ours, features, instances)
    assert torch.equal(our_loss, loss)
    (record,) = caplog.records
    assert "LongTailMaskHead computes the masks of all classes: " in record.message


class _Cooler(LongTailMaskHead):
    def layers(self, x):
        return super().layers(x) / 2


@pytest.mark.parametrize("kind", ["subclass", "instance"])
def test_overridden_layers_are_called(kind, caplog):
    stock, ours = make_pair(6)
    features = torch.randn(3, CHANNELS, 5, 5)
    instances = make_instances([[4, 2], [5]], training=True)
    stock.layers = lambda x: MaskRCNNConvUpsampleHead.layers(stock, x) / 2
    if kind == "subclass":
        ours.__class__ = _Cooler
    else:
        ours.layers = lambda x: LongTailMaskHead.layers(ours, x) / 2
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        loss, gradients, _ = train(stock, features, instances)
        our_loss, our_gradients, _ = train(ours, features, instances)
    assert torch.equal(our_loss, loss)
    assert all(torch.equal(our_gradients[name], g) for name, g in gradients.items())
    (record,) = caplog.records
    assert "layers is not Detectron2's" in record.message


def test_hooks_on_the_predictor_run():
    _, ours = make_pair(6)
    shapes = []
    ours.predictor.register_forward_hook(lambda *args: shapes.append(args[-1].shape))
    ours.eval()(torch.randn(2, CHANNELS, 5, 5), make_instances([[4, 2]], training=False))
    assert shapes == [(2, 6, 10, 10)]


class _Traced(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features, classes):
        instances = Instances((40, 40))
        instances.pred_classes = classes
        return self.head(features, [instances])[0].pred_masks


def test_traces_are_those_of_detectron2(caplog):
    stock, ours = (head.eval() for head in make_pair(6))
    features, classes = torch.randn(3, CHANNELS, 5, 5), torch.tensor([5, 0, 3])
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            traced = torch.jit.trace(_Traced(ours), (features, classes), check_trace=False)
    assert [r.message for r in caplog.records if "LongTailMaskHead" in r.message] == [
        "LongTailMaskHead computes the masks of all classes: it is traced or exported"
    ]
    # Other classes than those of the trace.
    features, classes = torch.randn(3, CHANNELS, 5, 5), torch.tensor([1, 5, 2])
    with torch.no_grad():
        expected = _Traced(stock)(features, classes)
        torch.testing.assert_close(traced(features, classes), expected)


def test_scripts_are_those_of_detectron2():
    # The export of Detectron2 v0.6 wants caffe2.
    patch = pytest.importorskip("detectron2.export.torchscript_patch")
    stock, ours = (head.eval() for head in make_pair(6))
    features, classes = torch.randn(3, CHANNELS, 5, 5), torch.tensor([1, 5, 2])
    fields = {"pred_boxes": Boxes, "pred_classes": torch.Tensor, "pred_masks": torch.Tensor}
    with patch.freeze_training_mode(ours), patch.patch_instances(fields) as scripted_instances:
        script = torch.jit.script(ours)
        instances = scripted_instances((40, 40))
        instances.pred_classes = classes
        result = script(features, [instances])[0].pred_masks
    with torch.no_grad():
        torch.testing.assert_close(result, _Traced(stock)(features, classes))


def test_parameters_and_draw_are_detectron2_s():
    states = []
    for name in ("MaskRCNNConvUpsampleHead", "LongTailMaskHead"):
        torch.manual_seed(5)
        head = ROI_MASK_HEAD_REGISTRY.get(name)(small_config(), ShapeSpec(channels=16))
        states.append((head, head.state_dict(), torch.rand(1)))
    (stock, state, number), (ours, our_state, our_number) = states
    assert list(state) == list(our_state)
    assert all(torch.equal(our_state[name], value) for name, value in state.items())
    assert torch.equal(number, our_number)
    # Both ways.
    for a, b in ((stock, our_state), (ours, state)):
        assert a.load_state_dict(b) == ([], [])


@pytest.mark.parametrize("kind", ["standard", "cascade", "res5"])
def test_whole_detectors_agree(kind):
    """One config key apart: same start, losses, gradients and detections."""
    results = []
    for name in ("MaskRCNNConvUpsampleHead", "LongTailMaskHead"):
        cfg = small_config(kind, MODEL__ROI_MASK_HEAD__NAME=name)
        model = small_model(cfg).train()
        torch.manual_seed(11)
        with EventStorage() as storage:
            losses = model(small_batch())
            sum(losses.values()).backward()
            logged = {k: v for k, (v, _) in storage.latest().items()}
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            detections = [r["instances"] for r in model.eval()(small_batch())]
        results.append((losses, logged, gradients, detections))
    (losses, logged, gradients, detections), ours = results
    torch.testing.assert_close(ours[0], losses, rtol=1e-6, atol=1e-7)
    assert ours[1] == logged
    torch.testing.assert_close(ours[2], gradients, rtol=1e-5, atol=1e-7)
    for a, b in zip(ours[3], detections):
        assert len(a) > 0
        assert torch.equal(a.pred_classes, b.pred_classes)
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert torch.equal(a.pred_masks, b.pred_masks)


def test_point_rend_is_left_alone():
    """Its mask head is another class, which reads image features itself."""
    point_rend = pytest.importorskip("detectron2.projects.point_rend")
    results = []
    for ours in (False, True):
        cfg = small_config(ours=ours)
        point_rend.add_pointrend_config(cfg)
        mask, point = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        mask.NAME, mask.POOLER_TYPE, mask.IN_FEATURES = "PointRendMaskHead", "", ["p2"]
        mask.POOLER_RESOLUTION, mask.FC_DIM, mask.POINT_HEAD_ON = 14, 16, True
        point.NUM_CLASSES, point.IN_FEATURES, point.FC_DIM = NUM_CLASSES, ["p2"], 16
        point.TRAIN_NUM_POINTS, point.SUBDIVISION_NUM_POINTS = 16, 49
        model = small_model(cfg).train()
        torch.manual_seed(11)
        with EventStorage():
            losses = model(small_batch())
        with torch.no_grad():
            torch.manual_seed(11)
            masks = [r["instances"].pred_masks for r in model.eval()(small_batch())]
        results.append((losses, masks))
    assert "loss_mask_point" in results[0][0]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_autocast():
    stock, ours = make_pair(20)
    features = torch.randn(6, CHANNELS, 5, 5)
    instances = make_instances([[19, 3, 3], [0, 1, 2]], training=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients, _ = train(stock, features, instances)
        our_loss, our_gradients, _ = train(ours, features, instances)
    torch.testing.assert_close(our_loss, loss, rtol=1e-2, atol=1e-2)
    for name, gradient in gradients.items():
        assert our_gradients[name].dtype == gradient.dtype
        torch.testing.assert_close(our_gradients[name], gradient, rtol=0.05, atol=1e-3, msg=name)
