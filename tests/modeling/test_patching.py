"""Patched models: another loss, all else as it was."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils.events import EventStorage

from lt_det.data.stats.class_stats import ClassStats
from lt_det.losses import get_loss
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.patching import create_loss, patch, unpatch
from lt_det.modeling.patching.probe import try_predictor
from tests.modeling.foreign_heads import OldHeads, with_foreign_predictors
from tests.modeling.small_models import (
    HEADS,
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

IMAGES = (90, 50, 20, 5, 2, 1)
STATS = ClassStats(
    "toy",
    tuple("abcdef"),
    image_counts=IMAGES,
    instance_counts=IMAGES,
    num_images=100,
    source="annotations",
)
COUNTS = torch.tensor([float(n) for n in IMAGES], dtype=torch.float64)
WITH_BACKGROUND = torch.cat([COUNTS, COUNTS.mean()[None]])


def stock_model(kind: str = "standard", **keys):
    return small_model(small_config(kind, ours=False, **keys))


def step(model, *, seed: int = 11):
    """Return losses and gradients of one training step, which changes nothing."""
    model.train()
    model.zero_grad()
    torch.manual_seed(seed)
    with EventStorage():
        losses = model(small_batch())
        sum(losses.values()).backward()
    return (
        {k: v.detach() for k, v in losses.items()},
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
    )


def detections(model):
    model.eval()
    with torch.no_grad():
        found = [r["instances"] for r in model(small_batch())]
    assert all(len(f) for f in found)
    return [(f.pred_boxes.tensor, f.scores, f.pred_classes) for f in found]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return len(a) == len(b) and all(map(same, a, b))


def predictors_of(model):
    found = model.roi_heads.box_predictor
    return list(found) if isinstance(found, torch.nn.ModuleList) else [found]


def check_patch(model, loss, **options):
    """Patch, compare, unpatch, compare; return the losses before and with the patch."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {n: set(vars(m)) | set(m._modules) for n, m in model.named_modules()}
    before, found, random = step(model), detections(model), torch.get_rng_state()
    types = [type(m) for m in model.modules()]
    assert patch(model, loss, **options) is model
    assert torch.equal(torch.get_rng_state(), random)
    assert same(model.state_dict(), state)
    assert same(detections(model), found)
    model.load_state_dict(state, strict=True)
    after = step(model)
    assert after[0].keys() == before[0].keys()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(step(twin), after)
        assert same(step(unpatch(twin)), before)
    assert unpatch(model) is model
    assert same(step(model), before)
    assert {n: set(vars(m)) | set(m._modules) for n, m in model.named_modules()} == attributes
    assert [type(m) for m in model.modules()] == types
    assert unpatch(model) is model
    return before[0], after[0]


@pytest.mark.parametrize("kind", HEADS)
def test_stock_heads(kind):
    before, after = check_patch(stock_model(kind), "balanced_softmax", stats=STATS)
    for name in before:
        assert torch.equal(before[name], after[name]) == ("cls" not in name or "rpn" in name), name


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_is_that_of_our_own_heads(kind):
    """K counts, the background's prior added, the same seed: to the last bit."""
    ours = small_model(small_config(kind, LT_DET__LOSS="balanced_softmax"))
    for head in classification_heads(ours):
        head.criterion.bind(WITH_BACKGROUND, 100)
    patched = patch(stock_model(kind), create_loss("balanced_softmax", STATS))
    assert same(step(patched), step(ours))


@pytest.mark.parametrize("counts", [COUNTS, WITH_BACKGROUND])
@pytest.mark.parametrize("weights", [None, ClassWeights("inverse_frequency")])
def test_k_counts_and_k_plus_one_are_the_same(counts, weights):
    loss = Criterion("balanced_softmax", class_counts=counts, class_weights=weights)
    model = patch(stock_model(), loss)
    (head,) = classification_heads(model)
    assert torch.equal(head.criterion.class_counts, WITH_BACKGROUND)
    assert head.criterion.background
    if weights is not None:
        assert head.criterion.class_weights.background
    step(model)
    # Once more: K + 1 counts stay what they are.
    patch(model, loss)
    assert torch.equal(loss.class_counts, WITH_BACKGROUND)


@pytest.mark.parametrize("foreign", ["squared", "sequential", "cosine"])
@pytest.mark.parametrize("kind", ["standard", "cascade"])
def test_foreign_predictors(foreign, kind):
    model = with_foreign_predictors(stock_model(kind), foreign)
    names = {n for n, _ in model.named_buffers()}
    loss = "balanced_sigmoid" if foreign == "sequential" else "balanced_softmax"
    if foreign == "cosine":
        detections(model)  # it normalises its weights when it is run for the first time
    before, after = check_patch(model, loss, stats=STATS)
    for name in before:
        changed = name.startswith("loss_cls")
        assert torch.equal(before[name], after[name]) != changed, name
    assert {n for n, _ in model.named_buffers()} == names


@pytest.mark.parametrize("foreign", ["squared", "sequential", "cosine"])
def test_loss_of_a_foreign_predictor(foreign):
    model = with_foreign_predictors(stock_model(), foreign)
    kind = "sigmoid" if foreign == "sequential" else "softmax"
    patch(model, f"balanced_{kind}", stats=STATS)
    (head,) = classification_heads(model)
    seen = []
    head.loss_observer = lambda logits, labels, sizes: seen.append((logits, labels, sizes))
    losses, _ = step(model)
    logits, labels, sizes = seen[0]
    assert sum(sizes) == len(labels) == len(logits)
    counts = COUNTS if kind == "sigmoid" else WITH_BACKGROUND
    columns = logits[:, :NUM_CLASSES] if kind == "sigmoid" else logits
    expected = Criterion(f"balanced_{kind}", class_counts=counts, num_images=100)
    torch.testing.assert_close(losses["loss_cls"], expected.mean_loss(columns, labels).detach())


def old_model():
    model = stock_model()
    stock = model.roi_heads
    parts = ("box_in_features", "box_pooler", "box_head", "num_classes", "proposal_matcher")
    parts += ("batch_size_per_image", "positive_fraction", "box_predictor")
    model.roi_heads = OldHeads(**{name: getattr(stock, name) for name in parts})
    return model


def test_predictor_without_losses():
    before, after = check_patch(old_model(), "balanced_softmax", stats=STATS)
    for name in before:
        assert torch.equal(before[name], after[name]) != (name == "loss_cls"), name
    assert not before["loss_cls"].isclose(after["loss_cls"])


def fcos_model():
    from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead

    cfg = as_retinanet(small_config(), ours=False)
    stock = small_model(cfg)
    torch.manual_seed(0)
    shapes = [stock.backbone.output_shape()[f] for f in stock.head_in_features]
    return FCOS(
        backbone=stock.backbone,
        head=FCOSHead(input_shape=shapes, num_classes=NUM_CLASSES, conv_dims=[16]),
        head_in_features=stock.head_in_features,
        num_classes=NUM_CLASSES,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        test_score_thresh=0.0,
    )


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_dense_detectors(kind):
    def build():
        if kind == "fcos":
            return fcos_model()
        return small_model(as_retinanet(small_config(), ours=False))

    key = "loss_cls" if kind == "retinanet" else "loss_fcos_cls"
    model = patch(build(), "balanced_sigmoid", stats=STATS)
    losses, _ = step(model)
    focal, _ = step(patch(build(), "focal"))
    plain, gradients = step(build())
    # Detectron2's own loss, as a loss of ours.
    torch.testing.assert_close(focal, plain)
    torch.testing.assert_close(step(patch(build(), "focal"))[1], gradients)
    for name in plain:
        assert torch.equal(plain[name], losses[name]) == (name != key), name
    model = build()
    state, types = list(model.state_dict()), [type(m) for m in model.modules()]
    found = detections(model)
    patch(model, "focal")
    assert list(model.state_dict()) == state
    assert same(detections(model), found)
    patch(model, "focal", post_processing=True)
    # Equal scores, of which an untrained model has many, have no order in Detectron2.
    for (_, scores, _), (_, expected, _) in zip(detections(model), found):
        assert torch.equal(scores, expected)
    twin = pickle.loads(pickle.dumps(model))
    assert same(step(twin)[0], step(model)[0])
    unpatch(model)
    assert [type(m) for m in model.modules()] == types
    model.__dict__.pop("loss_normalizer")
    assert same(step(model), (plain, gradients))
    assert "losses" not in vars(model)


@pytest.mark.parametrize("kind", HEADS)
def test_post_processing_finds_the_same(kind, monkeypatch):
    from lt_det.modeling.patching import box_heads
    from lt_det.modeling.postprocessing import roi

    called = []
    for name in ("predict_detections", "cascade_detections"):
        function = getattr(roi, name)
        monkeypatch.setattr(
            box_heads, name, lambda *a, f=function, n=name: (called.append(n), f(*a))[1]
        )
    model = stock_model(kind)
    found = detections(model)
    patch(model, "softmax_ce", post_processing=True)
    assert same(detections(model), found)
    assert set(called) == {"cascade_detections" if kind == "cascade" else "predict_detections"}
    step(model)
    called.clear()
    unpatch(model)
    assert same(detections(model), found)
    assert not called


def test_a_second_patch_replaces_the_first():
    model = stock_model()
    plain = step(model)
    once = step(patch(model, "balanced_softmax", stats=STATS))
    patch(model, "softmax_ce", post_processing=True)
    assert same(step(model), plain)
    patch(model, "balanced_softmax", stats=STATS)
    assert same(step(model), once)
    # A refused one leaves it.
    with pytest.raises(ValueError, match="class_counts"):
        patch(model, "ldam")
    with pytest.raises(ValueError, match="scores by softmax"):
        patch(model, "balanced_sigmoid", stats=STATS)
    assert same(step(model), once)
    assert same(step(unpatch(model)), plain)


def test_heads_of_this_package_get_another_criterion():
    model = small_model(small_config("cascade", LT_DET__LOSS="sigmoid_ce"))
    before = step(model)
    patch(model, "balanced_sigmoid", stats=STATS)
    assert all(h.criterion.name == "balanced_sigmoid" for h in classification_heads(model))
    assert not same(step(model), before)
    assert same(step(unpatch(model)), before)
    with pytest.raises(ValueError, match="needs 7 columns, 6 classes and the background"):
        patch(model, "softmax_ce")
    retinanet = small_model(as_retinanet(small_config()))
    patch(retinanet, "balanced_sigmoid", stats=STATS)
    assert retinanet.criterion.name == "balanced_sigmoid"
    assert unpatch(retinanet).criterion.name == "focal"


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("balanced_softmax", {}, "'balanced_softmax' needs class_counts of the training set"),
        ("balanced_sigmoid", {"stats": STATS}, "which scores by softmax: .*USE_SIGMOID_CE"),
        ("softmax_ce", {"beta": 1}, "has no parameter"),
        (Criterion("softmax_ce"), {"tau": 1.0}, r"\['tau'\] are parameters of a loss .* by name"),
        (
            Criterion("balanced_softmax", class_counts=[1.0, 2, 3]),
            {},
            "has 3 class counts, .*FastRCNNOutputLayers.* has 6 classes: give it 6 or 7",
        ),
    ],
)
def test_what_does_not_fit_is_one_error(loss, options, message):
    model = stock_model()
    before = step(model)
    with pytest.raises(ValueError, match=message) as error:
        patch(model, loss, **options)
    assert "\n" not in str(error.value)
    assert same(step(model), before)


def test_columns_and_kinds():
    sequential = with_foreign_predictors(stock_model(), "sequential")
    with pytest.raises(ValueError, match="scores by sigmoid: .*loss of kind 'sigmoid'"):
        patch(sequential, "softmax_ce")
    with pytest.raises(ValueError, match="has 7 class counts, .* give it 6 counts"):
        patch(
            sequential, Criterion("balanced_sigmoid", class_counts=WITH_BACKGROUND, num_images=99)
        )
    with pytest.raises(ValueError, match="needs num_images of the training set, got None"):
        patch(sequential, Criterion("balanced_sigmoid", class_counts=COUNTS))
    # What was missing comes with the statistics.
    step(patch(sequential, Criterion("balanced_sigmoid"), stats=STATS))
    retinanet = small_model(as_retinanet(small_config(), ours=False))
    with pytest.raises(ValueError, match="needs 7 columns, .* take a loss of kind 'sigmoid'"):
        patch(retinanet, "softmax_ce")
    with pytest.raises(ValueError, match="has no head that can be patched"):
        patch(torch.nn.Linear(1, 1), "softmax_ce")
    with pytest.raises(TypeError, match="name of a loss .* got int"):
        patch(stock_model(), 3)
    with pytest.raises(ValueError, match="'toy' has 6 classes, .* has 4"):
        patch(stock_model(MODEL__ROI_HEADS__NUM_CLASSES=4), "balanced_softmax", stats=STATS)
    with pytest.raises(ValueError, match="post_processing must be False: .*its own inference"):
        patch(with_foreign_predictors(stock_model(), "squared"), "softmax_ce", post_processing=True)


class TwoInputs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(32, NUM_CLASSES + 1)
        self.num_classes = NUM_CLASSES

    def forward(self, x, other):
        return self.layer(x + other)

    def losses(self, _predictions, _proposals):
        return {}


class Boxes(TwoInputs):
    def forward(self, x):
        return {"scores": self.layer(x)}


class NoLoss(TwoInputs):
    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (TwoInputs, "the logits of TwoInputs .roi_heads.box_predictor. cannot be found: .*TypeErr"),
        (Boxes, r"the logits of Boxes .* cannot be found: .* gives dict, expected one tensor"),
        (NoLoss, r"the classification loss of NoLoss .* cannot be found: its losses are \[\]"),
    ],
)
def test_logits_that_cannot_be_found(predictor, message):
    model = stock_model()
    model.roi_heads.box_predictor = predictor()
    with pytest.raises(ValueError, match=message) as error:
        patch(model, "softmax_ce")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["balanced_sigmoid", "balanced_softmax", "ldam", "focal"])
def test_create_loss(name):
    loss = create_loss(name, STATS)
    assert loss.name == name
    assert torch.equal(loss.class_counts, COUNTS)
    assert loss.num_images == 100
    if "class_counts" in get_loss(name).bound_arguments(**loss.hyperparameters):
        with pytest.raises(ValueError, match=f"{name!r} needs class_counts"):
            create_loss(name)
    if name == "balanced_sigmoid":
        with pytest.raises(ValueError, match="unit must be 'image'"):
            create_loss(name, STATS, unit="instance")


def test_nothing_of_the_loss_is_in_the_state():
    model = patch(stock_model(), "balanced_softmax", stats=STATS)
    assert not [k for k in model.state_dict() if "lt_det" in k or "criterion" in k]
    assert not [n for n, _ in model.named_parameters() if "lt_det" in n]
    # It follows the model.
    (head,) = classification_heads(model)
    model.to("meta")
    assert head.criterion.class_counts.device.type == "meta"


def test_a_patch_leaves_modes_and_frozen_parameters():
    """The trial runs a copy."""
    model = with_foreign_predictors(stock_model(), "cosine").train()
    predictor = model.roi_heads.box_predictor.requires_grad_(False)
    model.backbone.eval()
    modes = {n: m.training for n, m in model.named_modules()}
    weight = predictor.cls_score.weight.clone()
    patch(model, "softmax_ce")
    assert {n: m.training for n, m in model.named_modules() if n in modes} == modes
    assert not any(p.requires_grad for p in predictor.parameters())
    assert torch.equal(predictor.cls_score.weight, weight)


class BoxesFirst(FastRCNNOutputLayers):
    """Deltas before logits: with three classes of agnostic boxes both have four columns."""

    def forward(self, x):
        scores, deltas = super().forward(x)
        return deltas, scores

    def losses(self, predictions, proposals):
        return super().losses(predictions[::-1], proposals)

    def predict_probs(self, predictions, proposals):
        return super().predict_probs(predictions[::-1], proposals)


@pytest.mark.parametrize("num_classes", [3, 4])
def test_box_deltas_are_not_taken_for_logits(num_classes):
    features = {"channels": 8}
    predictor = BoxesFirst(
        ShapeSpec(**features),
        box2box_transform=Box2BoxTransform((10, 10, 5, 5)),
        num_classes=num_classes,
        cls_agnostic_bbox_reg=True,
    )
    found = try_predictor(predictor, num_classes=num_classes, features=[(8,)], where="it")
    assert (found.index, found.classifier, found.scoring) == (1, "cls_score", "softmax")


def test_notes_of_a_user_are_not_of_random_features():
    model = stock_model()
    seen = []
    model.roi_heads.box_predictor.register_forward_hook(lambda *_: seen.append(1))
    patch(model, "softmax_ce")
    assert not seen
    step(model)
    assert seen


def test_a_predictor_that_cannot_be_copied_is_refused_in_one_line():
    model = stock_model()
    predictor = model.roi_heads.box_predictor
    predictor.cls_score = torch.nn.utils.weight_norm(predictor.cls_score)
    with pytest.raises(ValueError, match="cannot be copied .* in torch.nn.utils.param") as error:
        patch(model, "softmax_ce")
    assert "\n" not in str(error.value)
