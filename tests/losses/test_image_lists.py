"""What image lists hide from a loss, against a restatement region by region and class by class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.losses.draws import Draws
from lt_det.losses.image_lists import (
    INCOMPLETE,
    KNOWN,
    UNKNOWN,
    ImageLists,
    image_of_region,
)

K = 4
COUNTS = torch.tensor([90.0, 50.0, 20.0, 2.0], dtype=torch.float64)
#: Regions of three images: 3, none and 4.
SIZES = [3, 0, 4]
LABELS = torch.tensor([0, 4, 4, 2, 4, 1, 4])
IMAGES = torch.tensor([0, 0, 0, 2, 2, 2, 2])
KNOWLEDGE = torch.tensor(
    [
        [KNOWN, UNKNOWN, INCOMPLETE, KNOWN],
        [KNOWN, KNOWN, KNOWN, KNOWN],
        [UNKNOWN, INCOMPLETE, KNOWN, UNKNOWN],
    ],
    dtype=torch.uint8,
)


def lists_of(policy: str, *, knowledge: Tensor = KNOWLEDGE, **options: object) -> ImageLists:
    lists = ImageLists(policy, **options)
    lists.knowledge = knowledge
    return lists


def stays(policy: str, region: int, c: int, sampled: set[int] | None) -> bool:
    """Return whether class ``c`` counts in the loss of a region: section 9 in plain words."""
    label, known = int(LABELS[region]), int(KNOWLEDGE[IMAGES[region], c])
    if label == c:
        return True
    if label == K:  # background
        if known == KNOWN:
            return True
        return known == UNKNOWN and sampled is not None and c in sampled
    return policy == "all" or known in (KNOWN, INCOMPLETE)


def make_logits(columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(LABELS), columns, generator=generator, dtype=torch.float64) * 2


#: With 4 labels in the batch, the background among them, nothing is drawn.
@pytest.mark.parametrize(("fill", "sampled"), [(0, None), (4, {0, 1, 2})])
@pytest.mark.parametrize("policy", ["all", "known"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_loss_against_a_restatement_by_scalars(kind, policy, fill, sampled):
    lists = lists_of(policy, fill=fill, class_counts=COUNTS.tolist())
    logits = make_logits(K + (kind == "softmax")).requires_grad_()
    criterion = Criterion(f"{kind}_ce")
    loss = criterion.mean_loss(lists.hide(logits, LABELS, IMAGES), LABELS)

    total = 0.0
    for r, row in enumerate(logits.tolist()):
        kept = [c for c in range(K) if stays(policy, r, c, sampled)]
        label = int(LABELS[r])
        if kind == "softmax":
            kept.append(K)  # the background is never hidden
            total += math.log(sum(math.exp(row[c]) for c in kept)) - row[label]
        else:
            total += sum(math.log1p(math.exp(row[c])) - (c == label) * row[c] for c in kept)
    assert loss.item() == pytest.approx(total / len(LABELS), rel=1e-12)

    loss.backward()
    for r in range(len(LABELS)):
        for c in range(K):
            assert (logits.grad[r, c] != 0) == stays(policy, r, c, sampled), (r, c)


@pytest.mark.parametrize("policy", ["all", "known"])
def test_no_region_of_background_pushes_down_what_its_image_has_unannotated(policy):
    lists = lists_of(policy, fill=K + 1, class_counts=COUNTS.tolist())
    logits = make_logits(K).requires_grad_()
    Criterion("sigmoid_ce").mean_loss(lists.hide(logits, LABELS, IMAGES), LABELS).backward()
    for r in (LABELS == K).nonzero()[:, 0].tolist():
        of_image = KNOWLEDGE[IMAGES[r]]
        assert (logits.grad[r, of_image == INCOMPLETE] == 0).all()
        # With all classes in the set nothing else is hidden.
        assert (logits.grad[r, of_image != INCOMPLETE] > 0).all()


def bound(name: str) -> tuple[Criterion, int]:
    """Return a criterion of a detector and the number of its logits."""
    criterion = Criterion(name)
    extra = criterion.extra_columns(background=True)
    counts = torch.cat([COUNTS, COUNTS.new_tensor([500.0])])
    criterion.bind(counts if criterion.spec.counts_background else COUNTS, 1000)
    criterion.fit_head(K, background=True)
    return criterion, K + len(extra)


def step(name: str, lists: ImageLists | None, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss and gradient of two steps, and what the state, if any, holds after them."""
    criterion, _ = bound(name)
    torch.manual_seed(0)  # some losses draw
    logits = logits.clone().requires_grad_()
    for _ in range(2):
        seen = logits if lists is None else lists.hide(logits, LABELS, IMAGES)
        with criterion.step(seen, LABELS):
            loss = criterion.mean_loss(seen, LABELS)
    (gradient,) = torch.autograd.grad(loss, logits)
    state = [b.flatten().double() for b in criterion.state.buffers()] if criterion.state else []
    return loss.detach(), gradient, torch.cat([*state, torch.zeros(1)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_the_plain_one_where_all_is_annotated(name, dtype):
    """To the last bit: loss, gradient and state."""
    logits = make_logits(bound(name)[1]).to(dtype)
    for policy in ("all", "known"):
        lists = lists_of(policy, knowledge=torch.full_like(KNOWLEDGE, KNOWN))
        for plain, listed in zip(step(name, None, logits), step(name, lists, logits)):
            assert torch.equal(plain, listed)


@pytest.mark.parametrize("policy", ["all", "known"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_loss_feels_a_hidden_logit(name, policy):
    lists = lists_of(policy)
    hidden = lists.hidden(LABELS, IMAGES)
    assert hidden.any()
    logits = make_logits(bound(name)[1])
    loss, gradient, state = step(name, lists, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, :K][hidden] == 0).all()
    assert gradient.abs().sum() > 0
    other = logits.clone()
    other[:, :K][hidden] += 7.0
    for one, same in zip((loss, gradient, state), step(name, lists, other)):
        assert torch.equal(one, same)


def test_half_precision_hides_as_well():
    logits = make_logits(K + 1).half().requires_grad_()
    lists_of("known").hide(logits, LABELS, IMAGES).softmax(dim=1)[:, 0].sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, :K][lists_of("known").hidden(LABELS, IMAGES)] == 0).all()


def test_regions_go_with_the_lists_of_their_image():
    images = image_of_region(SIZES, num_images=3, like=LABELS)
    assert torch.equal(images, IMAGES)
    for sizes, num_images in (([3, 4], 3), ([3, 0, 3], 3), ((), 3)):
        with pytest.raises(ValueError, match="lists of 3 images do not fit 7 regions"):
            image_of_region(sizes, num_images=num_images, like=LABELS)


def test_draws_are_those_of_the_iteration():
    knowledge = torch.full((1, 200), UNKNOWN, dtype=torch.uint8)
    counts = torch.logspace(0, 4, 200, dtype=torch.float64).tolist()
    lists = lists_of("all", knowledge=knowledge, fill=30, class_counts=counts)
    iteration = 3
    lists.draws = Draws(0, lambda: iteration)
    labels, images = torch.tensor([5, 200]), torch.zeros(2, dtype=torch.int64)
    first = lists.hidden(labels, images)
    assert not first[0].any()
    assert (~first[1]).sum() == 29  # 30 with the background
    assert not first[1, 5]
    torch.rand(3)
    assert torch.equal(lists.hidden(labels, images), first)
    iteration = 4
    assert not torch.equal(lists.hidden(labels, images), first)
    frequent = torch.zeros(200)
    for iteration in range(100):  # noqa: B007 (the draws look at it)
        frequent += ~lists.hidden(labels, images)[1]
    assert frequent[100:].sum() > 3 * frequent[:100].sum()


def test_an_empty_batch_has_a_loss_of_zero():
    logits = torch.zeros(0, K + 1).requires_grad_()
    labels = torch.zeros(0, dtype=torch.int64)
    images = image_of_region([0, 0, 0], num_images=3, like=labels)
    loss = Criterion("softmax_ce").mean_loss(lists_of("known").hide(logits, labels, images), labels)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"policy": "some"}, "policy must be one of"),
        ({"fill": -1}, "fill must be at least 0, got -1"),
        ({"fill": 3, "fill_power": -0.5, "class_counts": [1.0]}, "fill_power must be at least 0"),
        ({"fill": 3}, "fill 3 draws classes by their counts: pass class_counts"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        ImageLists(**arguments)


def test_lists_that_did_not_arrive_or_are_of_other_classes():
    with pytest.raises(RuntimeError, match="did not reach the loss"):
        ImageLists("all").hide(make_logits(K), LABELS, IMAGES)
    with pytest.raises(ValueError, match="image lists are of 4 classes, the logits of 3"):
        lists_of("all").hide(make_logits(3), LABELS, IMAGES)
