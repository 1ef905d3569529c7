"""Image lists in every head: the right image's, and without effect where all is annotated."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.utils.events import EventStorage
from torch import nn

from lt_det.config import default_keys
from lt_det.losses.criterion import Criterion
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, INCOMPLETE, KNOWN, UNKNOWN, ImageLists
from lt_det.modeling.classifiers.classification_head import (
    ClassificationHead,
    classification_heads,
)
from lt_det.modeling.dense.losses import listed_logits
from lt_det.modeling.image_lists import has_lists, honour_lists, take_lists
from lt_det.modeling.patching import patch
from lt_det.modeling.patching.from_config import patch_from_config
from tests.modeling.dense.test_retinanet import fcos
from tests.modeling.small_models import (
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

#: Class 4 has no object in either image; class 2 has none and is incomplete.
LISTS = torch.tensor(
    [
        [KNOWN, KNOWN, INCOMPLETE, KNOWN, UNKNOWN, KNOWN],
        [UNKNOWN, KNOWN, INCOMPLETE, KNOWN, UNKNOWN, KNOWN],
    ],
    dtype=torch.uint8,
)


def batch_of(lists: torch.Tensor) -> list[dict]:
    return [{**one, CLASS_KNOWLEDGE: row} for one, row in zip(small_batch(), lists)]


def config_of(head: str, policy: str, loss: str | None = None):
    if head in ("retinanet", "patched retinanet"):
        cfg = as_retinanet(small_config(), ours=head == "retinanet", loss=loss or "focal")
    else:
        kind = head.removeprefix("patched ")
        cfg = small_config(kind, ours=kind == head, LT_DET__LOSS=loss or "softmax_ce")
    cfg.LT_DET.PATCH = head.startswith("patched ")
    cfg.LT_DET.IMAGE_LISTS.POLICY = policy
    return cfg


def model_of(head: str, policy: str, loss: str | None = None) -> nn.Module:
    if head == "fcos":
        torch.manual_seed(0)
        model = fcos(ours=True)
        if policy:
            model.criterion.image_lists = ImageLists(policy)
            honour_lists(model)
        return model
    cfg = config_of(head, policy, loss)
    return patch_from_config(cfg, small_model(cfg), defaults=default_keys())


def trained(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Return the losses of a step, its gradients beside them."""
    torch.manual_seed(1)
    model.train()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {**{k: v.detach() for k, v in losses.items()}, **gradients}


HEADS = ["standard", "cascade", "retinanet", "fcos", "patched standard"]
HEADS += [
    pytest.param(head, marks=pytest.mark.slow)
    for head in ("res5", "patched cascade", "patched retinanet")
]


@pytest.mark.parametrize("head", HEADS[1:])
def test_losses_are_plain_to_the_last_bit_where_all_is_annotated(head):
    plain = trained(model_of(head, ""), small_batch())
    listed = trained(model_of(head, "known"), batch_of(torch.full_like(LISTS, KNOWN)))
    assert plain.keys() == listed.keys()
    for name, value in plain.items():
        assert torch.equal(value, listed[name]), name


def classifier_bias_gradients(model: nn.Module, gradients: dict) -> list[torch.Tensor]:
    """Return ``(K,)`` gradients, summed over anchors."""
    names = [name for name in gradients if name.endswith("cls_score.bias")]
    found = [gradients[name] for name in names]
    if hasattr(model, "criterion") and not list(classification_heads(model)):
        return [gradient.view(-1, NUM_CLASSES).sum(dim=0) for gradient in found]
    return [gradient[:NUM_CLASSES] for gradient in found]


@pytest.mark.parametrize("head", HEADS)
def test_a_class_that_nothing_is_known_of_gets_no_gradient(head):
    model = model_of(head, "known")
    found = classifier_bias_gradients(model, trained(model, batch_of(LISTS)))
    assert len(found) == (3 if "cascade" in head else 1)
    for gradient in found:
        assert gradient[4] == 0
        # Class 2 is a negative of objects alone, class 3 has objects.
        assert gradient[2] != 0
        assert gradient[3] != 0


def test_lists_reach_the_loss_in_the_order_of_the_batch():
    model = nn.Sequential(Criterion("softmax_ce", image_lists=ImageLists("all")), nn.Linear(1, 1))
    take_lists(model, batch_of(LISTS))
    assert torch.equal(model[0].image_lists.knowledge, LISTS)
    take_lists(model, small_batch())  # without lists: none are left of the batch before
    assert model[0].image_lists.knowledge is None


def test_regions_obey_the_lists_of_their_own_image():
    """With other numbers of regions; both images swapped with their lists change nothing."""
    head = ClassificationHead()
    head.criterion = Criterion("sigmoid_ce", image_lists=ImageLists("all"))
    labels = torch.tensor([0, 6, 6, 6, 1, 6])
    logits = torch.randn(6, NUM_CLASSES, generator=torch.Generator().manual_seed(0))
    lists = head.criterion.image_lists

    def loss(rows: slice, sizes: list[int], knowledge: torch.Tensor) -> torch.Tensor:
        lists.knowledge = knowledge
        return head.classification_loss(logits[rows], labels[rows], regions_per_image=sizes)

    both = loss(slice(0, 6), [4, 2], LISTS) * 6
    apart = loss(slice(0, 4), [4], LISTS[:1]) * 4 + loss(slice(4, 6), [2], LISTS[1:]) * 2
    torch.testing.assert_close(both, apart)
    assert not torch.isclose(both, loss(slice(0, 6), [4, 2], LISTS.flip(0)) * 6)


def test_dense_detectors_obey_the_lists_of_their_own_image():
    criterion = Criterion("focal", image_lists=ImageLists("known"))
    lists = criterion.image_lists
    lists.knowledge = LISTS
    labels = torch.tensor([[0, 6, -1, 6, 6], [-1, 1, 6, -1, 6]])
    logits = torch.zeros(2, 5, NUM_CLASSES)
    found = iter(listed_logits(criterion, logits, labels) != 0)
    for image in range(2):
        for label in labels[image].tolist():
            if label == NUM_CLASSES:
                assert torch.equal(next(found), LISTS[image] != KNOWN)
            elif label >= 0:
                assert torch.equal(next(found), LISTS[image] == UNKNOWN)
    assert next(found, None) is None


def test_in_a_lazy_config(tmp_path):
    lazy = L(Criterion)(
        name="sigmoid_ce", image_lists=L(ImageLists)(policy="known", fill=3, class_counts=[1.0] * 6)
    )
    LazyConfig.save(lazy, str(tmp_path / "criterion.yaml"))
    criterion = instantiate(LazyConfig.load(str(tmp_path / "criterion.yaml")))
    assert (criterion.image_lists.policy, criterion.image_lists.fill) == ("known", 3)

    model = small_model(config_of("standard", "", "sigmoid_ce"))
    with pytest.raises(ValueError, match="no loss of GeneralizedRCNN has image lists"):
        honour_lists(model)
    model.roi_heads.box_predictor.criterion = criterion
    model = instantiate(L(honour_lists)(model=model))
    losses = trained(copy.deepcopy(model), batch_of(LISTS))
    assert torch.isfinite(losses["loss_cls"])
    with pytest.raises(RuntimeError, match="the lists of the images did not reach the loss"):
        trained(model, small_batch())


def test_patched_by_a_call():
    model = small_model(small_config(ours=False))
    patch(model, Criterion("softmax_ce", image_lists=ImageLists("known")))
    assert has_lists(model)
    found = trained(honour_lists(model), batch_of(LISTS))
    assert found["roi_heads.box_predictor.cls_score.bias"][4] == 0


def test_lists_change_nothing_in_evaluation():
    listed, plain = (small_model(config_of("standard", policy)) for policy in ("known", ""))
    assert listed.state_dict().keys() == plain.state_dict().keys()
    for model in (listed, plain):
        model.eval()
    with torch.no_grad():
        one, other = (m(small_batch())[0]["instances"] for m in (honour_lists(listed), plain))
    assert torch.equal(one.scores, other.scores)


def test_other_trainers_do_not_honour_lists():
    cfg = config_of("standard", "all")
    with pytest.raises(RuntimeError, match="train with LongTailTrainer, or"):
        trained(small_model(cfg), small_batch())


def test_keys_reach_the_lists():
    cfg = config_of("standard", "known")
    cfg.LT_DET.IMAGE_LISTS.FILL, cfg.LT_DET.IMAGE_LISTS.FILL_POWER = 7, 0.25
    lists = small_model(cfg).roi_heads.box_predictor.criterion.image_lists
    assert (lists.policy, lists.fill, lists.fill_power) == ("known", 7, 0.25)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"POLICY": "some"}, r"LT_DET\.IMAGE_LISTS\.POLICY must be one of"),
        ({"POLICY": "all", "FILL": -2}, r"LT_DET\.IMAGE_LISTS\.FILL must be at least 0"),
        ({"FILL": 50}, r"LT_DET\.IMAGE_LISTS\.FILL 50 would do nothing"),
    ],
)
def test_wrong_keys(keys, text):
    cfg = config_of("standard", "")
    for key, value in keys.items():
        cfg.LT_DET.IMAGE_LISTS[key] = value
    with pytest.raises(ValueError, match=text):
        small_model(cfg)
