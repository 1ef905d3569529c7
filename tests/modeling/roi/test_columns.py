"""Box predictors of losses with columns, scores and a state of their own."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.patching.patch import patch
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from lt_det.modeling.roi.roi_heads import OUTPUT_LAYERS, box_predictors
from tests.modeling.small_models import as_retinanet, small_batch, small_config, small_model

K = 4
OPTIONS = {"box2box_transform": Box2BoxTransform((10.0, 10.0, 5.0, 5.0)), "num_classes": K}
#: The losses whose rows say something of columns, scores or a state.
OWN = sorted(
    name for name, spec in LOSSES.items() if spec.columns or spec.scores or spec.state is not None
)


def predictor(name: str, **options: object) -> SoftmaxOutputLayers | SigmoidOutputLayers:
    spec = LOSSES[name]
    counts = [90.0, 20.0, 5.0, 1.0] + [29.0] * spec.counts_background
    criterion = Criterion(name, class_counts=counts, num_images=100)
    options = {**OPTIONS, **options}
    return OUTPUT_LAYERS[spec.kind](ShapeSpec(channels=8), criterion=criterion, **options)


def proposals() -> list[Instances]:
    made = []
    for count in (7, 5):
        one = Instances((50, 50))
        corners = torch.rand(count, 2) * 20
        one.proposal_boxes = Boxes(torch.cat([corners, corners + 10], dim=1))
        one.gt_boxes = Boxes(torch.cat([corners + 1, corners + 12], dim=1))
        one.gt_classes = torch.arange(count) % (K + 1)
        made.append(one)
    return made


@pytest.mark.parametrize("name", OWN)
def test_a_head_trains_and_predicts(name):
    head = predictor(name)
    others = head.criterion.extra_columns(background=True)
    assert head.cls_score.out_features == K + len(others)
    features = torch.randn(12, 8)
    before = copy.deepcopy(head.state_dict())
    with EventStorage():
        losses = head.losses(head(features), proposals())
    sum(losses.values()).backward()
    assert torch.isfinite(head.cls_score.weight.grad).all()
    moved = {key for key, value in head.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.startswith("criterion.state.") for key in moved)
    assert bool(moved) == (LOSSES[name].state is not None)
    head.eval()
    with torch.no_grad():
        scores = torch.cat(head.predict_probs(head(features), proposals()))
        assert scores.shape == (12, K + 1)
        assert ((scores >= 0) & (scores <= 1)).all()
        (found, _), _ = head.inference(head(features), proposals()), None
    assert len(found) == 2


@pytest.mark.parametrize("name", OWN)
def test_rows_of_a_stock_head_find_their_columns(name):
    stock = FastRCNNOutputLayers(ShapeSpec(channels=8), **OPTIONS)
    head = predictor(name)
    head.adopt(stock)
    others = head.criterion.extra_columns(background=True)
    rows = head.cls_score.weight
    assert torch.equal(rows[:K], stock.cls_score.weight[:K])
    if "background" in others:
        assert others[-1] == "background"
        assert torch.equal(rows[-1], stock.cls_score.weight[-1])


@pytest.mark.parametrize("name", OWN)
def test_a_sigmoid_starts_from_the_prior_whatever_its_activation(name):
    if LOSSES[name].kind == "softmax":
        pytest.skip("a softmax starts from biases of 0")
    head = predictor(name, prior_prob=0.01)
    scores = head.criterion.scores(head.cls_score.bias[None])
    if head.criterion.scoring(background=True) == "sigmoid_beside_background":
        scores = scores[:, :K] / (1 - scores[:, K:])
    torch.testing.assert_close(scores[0, :K], torch.full((K,), 0.01))


@pytest.mark.parametrize("name", OWN)
def test_post_hoc_corrections_leave_the_other_columns(name):
    head = predictor(name)
    correction = PostHocCorrection(logit_adjustment=1.0, class_counts=torch.tensor([8.0, 4, 2, 1]))
    head.post_hoc = correction
    logits = torch.randn(3, head.cls_score.out_features)
    found = head.inference_logits(logits)
    assert torch.equal(found[:, K:], logits[:, K:])
    assert not torch.isclose(found[:, :K], logits[:, :K]).all()


@pytest.mark.parametrize("kind", ["standard", "cascade"])
@pytest.mark.parametrize("name", ["eqlv2"])
def test_a_model_of_a_config_trains_and_each_stage_has_its_state(name, kind):
    model = small_model(small_config(kind, LT_DET__LOSS=name))
    for head in box_predictors(model):
        counts = torch.arange(1.0, head.num_classes + 1, dtype=torch.float64)
        head.criterion.bind(counts, 100)
    model.train()
    with EventStorage():
        sum(model(small_batch()).values()).backward()
    keys = [key for key in model.state_dict() if ".criterion.state." in key]
    assert len(keys) == 2 * (3 if kind == "cascade" else 1)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model(small_batch())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_dense_detectors_train_a_state_and_refuse_other_scores(monkeypatch):
    model = small_model(as_retinanet(small_config(), loss="eqlv2"))
    model.train()
    with EventStorage():
        sum(model(small_batch()).values()).backward()
    assert model.criterion.state.negative.sum() > 0
    with pytest.raises(ValueError, match="needs a loss of kind 'sigmoid', got 'softmax_ce'"):
        small_model(as_retinanet(small_config(), loss="softmax_ce"))


def test_a_patch_trains_k_columns_of_a_state():
    model = small_model(small_config("standard", ours=False))
    with pytest.raises(ValueError, match="does not go with"):
        patch(model, "eqlv2")
    dense = small_model(as_retinanet(small_config(), ours=False))
    keys = set(dense.state_dict())
    patch(dense, "eqlv2")
    dense.train()
    with EventStorage():
        sum(dense(small_batch()).values()).backward()
    added = {key.rpartition(".")[2] for key in set(dense.state_dict()) - keys}
    assert added == {"positive", "negative"}


def test_stages_of_a_cascade_draw_by_seed_iteration_and_stage():
    def draws(seed: int, iteration: int) -> list[list[float]]:
        config = small_config("cascade", LT_DET__LOSS="fedloss", SEED=seed)
        found = []
        with EventStorage(iteration):
            for head in box_predictors(small_model(config)):
                generator = head.criterion.draws.generator(torch.device("cpu"))
                found.append(torch.rand(3, generator=generator).tolist())
        return found

    first = draws(3, 7)
    assert draws(3, 7) == first
    assert len({tuple(stage) for stage in first}) == 3
    assert draws(4, 7) != first
    assert draws(3, 8) != first


def test_a_second_look_at_a_loss_draws_the_same(monkeypatch):
    (head,) = box_predictors(small_model(small_config(LT_DET__LOSS="fedloss", SEED=3)))
    monkeypatch.setitem(head.criterion.hyperparameters, "num_sampled", 3)
    head.criterion.bind(torch.arange(1.0, 7.0, dtype=torch.float64), 100)
    logits, labels = torch.randn(8, 6), torch.tensor([2, 6, 6, 6, 6, 6, 6, 6])
    with EventStorage(5):
        first = head.classification_loss(logits, labels)
        assert torch.equal(head.criterion.row_losses(logits, labels).mean(), first)
    with EventStorage(6):
        others = {float(head.classification_loss(logits, labels))}
    assert others != {float(first)}
