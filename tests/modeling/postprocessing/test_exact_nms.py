"""Suppression that stops early gives what Detectron2's batched_nms gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import batched_nms
from torchvision.ops import boxes as box_ops

from lt_det.data.warn_once import warn_once
from lt_det.modeling.postprocessing import exact_nms, nms_probe
from lt_det.modeling.postprocessing.dense_inference import _knows_ties
from lt_det.modeling.postprocessing.exact_nms import Suppression, batched_nms_best
from lt_det.modeling.postprocessing.nms_probe import suppression_of

CPU = torch.device("cpu")


def candidates(num, num_classes, *, levels=None, seed=0, spread=100.0, size=40.0, copies=1):
    """Random boxes; ``levels`` distinct scores; each box ``copies`` times in a row."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(-(-num // copies), 4, generator=generator)
    corners = corners.repeat_interleave(copies, dim=0)[:num]
    boxes = torch.cat([corners[:, :2] * spread, corners[:, :2] * spread + corners[:, 2:] * size], 1)
    scores = torch.rand(num, generator=generator)
    if levels is not None:
        scores = (scores * levels).ceil() / levels
    return boxes, scores, torch.randint(0, num_classes, (num,), generator=generator)


def run(boxes, scores, classes, *, limit, iou=0.5, suppression=None):
    return batched_nms_best(
        scores,
        score_threshold=-1.0,
        iou_threshold=iou,
        limit=limit,
        classes_of=classes.__getitem__,
        boxes_of=boxes.__getitem__,
        # Not the probed one: where our code is wrong, the probe takes Detectron2's instead.
        suppression=suppression or Suppression(1000, stable=True),
    )


def check(boxes, scores, classes, *, limit, iou=0.5, suppression=None):
    expected = batched_nms(boxes, scores, classes, iou)
    expected = expected[:limit] if limit >= 0 else expected
    keep = run(boxes, scores, classes, limit=limit, iou=iou, suppression=suppression)
    assert keep.dtype == expected.dtype
    assert torch.equal(keep, expected)


def test_installed_version_is_known():
    """On this machine the fast path is on, and stable: otherwise nothing here tests it."""
    assert suppression_of(CPU) == Suppression(switch=1000, stable=True)


@pytest.mark.parametrize("num", [0, 1, 2, 999, 1000, 1001, 1500, 4000])
@pytest.mark.parametrize("limit", [-1, 0, 1, 40, 300, 10_000])
@pytest.mark.parametrize("levels", [None, 20, 1])
def test_any_size_limit_and_ties(num, limit, levels):
    for seed, num_classes in enumerate((1, 3, 80, 1203)):
        data = candidates(num, num_classes, levels=levels, seed=seed)
        check(*data, limit=limit)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("copies", [1, 2, 7])
def test_any_overlap_and_duplicate_boxes(iou, copies):
    for seed in range(4):
        data = candidates(3000, 12, seed=seed, copies=copies, spread=1000.0 * (seed % 2) + 30)
        check(*data, limit=50, iou=iou)
        check(*candidates(3000, 12, seed=seed, copies=copies, levels=400), limit=50, iou=iou)


@pytest.mark.parametrize("group", [7, 10_000])
def test_many_blocks(monkeypatch, group):
    """Nearly all is suppressed, so that block after block is needed; blocks cut through ties."""
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 16)
    monkeypatch.setattr(exact_nms, "_LARGEST_BLOCK", 64)
    monkeypatch.setattr(exact_nms, "_GROUP", group)
    for seed in range(6):
        for levels in (None, 3000, 100, 5):
            data = candidates(2500, 4, seed=seed, levels=levels, spread=60.0, size=80.0)
            for limit in (1, 5, 20, 60):
                check(*data, limit=limit, iou=0.4)


@pytest.mark.parametrize("levels", [None, 40, 1])
@pytest.mark.parametrize("num", [1, 63, 64, 500, 5000, 5100])
def test_contenders_hold_the_best_and_what_equals_the_last(num, levels):
    scores = candidates(num, 1, levels=levels)[1]
    for size in (1, 2, 19, 30):
        size = min(size, num)
        positions = exact_nms._contenders(scores, size)
        assert torch.equal(positions, positions.unique())
        last = scores.topk(size)[0][-1]
        assert torch.equal(positions[scores[positions] >= last], (scores >= last).nonzero()[:, 0])
        if levels is None and num >= 5000 and size < 20:
            assert len(positions) < num / 4


def test_ties_that_matter_only_below_the_limit_stay_on_the_fast_path(monkeypatch):
    boxes, scores, classes = candidates(3000, 40, seed=1)
    scores = torch.where(scores < 0.5, torch.full_like(scores, 0.25), scores)
    expected = batched_nms(boxes, scores, classes, 0.5)[:50]
    monkeypatch.setattr(exact_nms, "_all_survivors", None)
    assert torch.equal(run(boxes, scores, classes, limit=50), expected)


def test_equal_scores_within_a_class_are_settled_on_the_fast_path(monkeypatch):
    """The first of two boxes on top of each other wins; which one is it?"""
    boxes, scores, classes = candidates(3000, 40, seed=2, copies=2)
    scores, classes = scores[::2].repeat_interleave(2), classes[::2].repeat_interleave(2)
    expected = batched_nms(boxes, scores, classes, 0.5)[:50]
    assert bool((expected % 2 == 0).all())
    monkeypatch.setattr(exact_nms, "_all_survivors", None)
    assert torch.equal(run(boxes, scores, classes, limit=50), expected)


@pytest.mark.parametrize("piece", [64, 1000, 2**18])
@pytest.mark.parametrize("limit", [-1, 40])
def test_pieces_of_the_slow_path(piece, limit, monkeypatch):
    monkeypatch.setattr(exact_nms, "_PIECE", piece)
    for seed, num_classes in enumerate((1, 7, 900)):
        data = candidates(3000, num_classes, levels=50, seed=seed)
        check(*data, limit=limit)


def test_equal_scores_of_the_best_do_not_list_all_candidates(monkeypatch):
    """Neither boxes nor classes of all candidates exist at once."""
    boxes, scores, classes = candidates(4000, 6, seed=1, spread=1.0, size=1.0)
    boxes[:, :2], boxes[:, 2:] = boxes[:, :2] * 0.01, boxes[:, 2:] + 40
    scores[7:9], classes[7], classes[8] = 1.5, 0, 1
    expected = batched_nms(boxes, scores, classes, 0.5)[:3]
    monkeypatch.setattr(exact_nms, "_PIECE", 256)
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 16)
    asked = []

    def watched(of):
        return lambda positions: asked.append(len(positions)) or of[positions]

    keep = batched_nms_best(
        scores,
        score_threshold=-1.0,
        iou_threshold=0.5,
        limit=3,
        classes_of=watched(classes),
        boxes_of=watched(boxes),
        suppression=Suppression(1000, stable=True),
    )
    assert torch.equal(keep, expected)
    # 4,000 are candidates, about 670 of each class; a turn holds 500 or one class more.
    assert sum(asked) > 3 * 4000
    assert max(asked) < 1300


def test_leaving_the_fast_path_is_logged_once_and_not_by_the_probe(caplog):
    warn_once.cache_clear()
    nms_probe._probe.cache_clear()
    suppression_of(CPU)
    run(*candidates(1500, 9), limit=40)
    assert not caplog.records
    for _ in range(2):
        run(*candidates(1500, 9, levels=20), limit=40)
    (record,) = caplog.records
    assert "equal scores" in record.message


def test_tie_of_the_last_wanted_survivor_with_the_next():
    for seed in range(8):
        boxes, scores, classes = candidates(2000, 30, seed=seed, size=4.0)
        order = scores.argsort(descending=True)
        scores[order[30:60]] = scores[order[30]].clone()
        for limit in (30, 31, 45, 59, 60, 61):
            check(boxes, scores, classes, limit=limit)


@pytest.mark.parametrize("seed", range(3))
def test_tie_of_the_last_wanted_survivor_with_the_next_block(seed, monkeypatch):
    """The first block leaves exactly as many as wanted: eight pairs of boxes."""
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 16)
    boxes, scores, classes = candidates(2000, 3, seed=seed, size=0.001)
    scores = scores * 0.1
    pairs = torch.randperm(16)
    boxes[pairs[8:]], classes[pairs[8:]] = boxes[pairs[:8]], classes[pairs[:8]]
    scores[16 + torch.randperm(1900)[:300]] = 0.5  # equal to the eighth pair, and behind it
    scores[pairs] = torch.linspace(1, 0.5, 8).repeat(2)
    check(boxes, scores, classes, limit=8)


def test_a_block_that_ends_within_equal_scores_takes_the_first(monkeypatch):
    """A thousand copies of a box: the first one is a detection."""
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 16)
    boxes, scores, classes = candidates(2000, 3, size=0.001)
    copies = torch.randperm(2000)[:1030]
    scores[copies[:30]] += 2.0
    boxes[copies[30:]], classes[copies[30:]] = boxes[copies[-1]].clone(), 1
    scores[copies[30:]] = 1.5
    check(boxes, scores, classes, limit=31)


def test_unstable_devices_are_exact_too(monkeypatch):
    """A device whose sort orders equal scores in any way: everything is taken where it matters."""
    unstable = Suppression(1000, stable=False)
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 64)
    for seed in range(4):
        for levels in (None, 2000, 30):
            data = candidates(2500, 20, seed=seed, levels=levels)
            check(*data, limit=40, suppression=unstable)


def test_unstable_devices_leave_the_fast_path_at_ties(monkeypatch):
    """One of the two suppresses the other, so no survivors are equal: only the class tells."""
    boxes, scores, classes = candidates(3000, 3, seed=5, size=2.0)
    first, second = scores.argsort(descending=True)[3:5]
    calls = []
    every = exact_nms._all_survivors
    monkeypatch.setattr(
        exact_nms, "_all_survivors", lambda *args, **kw: calls.append(0) or every(*args, **kw)
    )
    unstable = Suppression(1000, stable=False)
    run(boxes, scores, classes, limit=20, suppression=unstable)
    assert not calls
    boxes[second], classes[second], scores[second] = boxes[first], classes[first], scores[first]
    run(boxes, scores, classes, limit=20)
    assert not calls
    run(boxes, scores, classes, limit=20, suppression=unstable)
    assert calls


def test_a_survivor_suppresses_the_first_of_the_next_block(monkeypatch):
    """Every candidate has a class of its own, but for copies of the best ten."""
    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 16)
    boxes, scores, _ = candidates(2000, 1)
    scores = scores.sort(descending=True)[0]
    classes = torch.arange(2000)
    copies = torch.cat([torch.arange(32) % 10, torch.zeros(1, dtype=torch.int64)])
    boxes[10:43], classes[10:43] = boxes[copies], classes[copies]
    check(boxes, scores, classes, limit=21)  # blocks of 42, then more


def test_algorithm_is_that_of_the_full_number_of_candidates():
    """The two algorithms disagree here, on candidates that would fit in one block."""
    for num in (1000, 1001):
        boxes, scores, classes = candidates(num, 2, seed=num, spread=10.0, size=10.0)
        boxes[0] = torch.tensor([0.0, 0.0, 2.0**24, 2.0**24])
        classes[0], scores[0] = 0, 2.0
        check(boxes, scores, classes, limit=100)
        shifted = box_ops._batched_nms_coordinate_trick(boxes, scores, classes, 0.5)[:100]
        by_class = box_ops._batched_nms_vanilla(boxes, scores, classes, 0.5)[:100]
        assert not torch.equal(shifted, by_class)


def test_offset_is_taken_from_all_candidates():
    """The box that reaches out farthest has the lowest score."""
    boxes, scores, classes = candidates(900, 2, seed=3, spread=10.0, size=10.0)
    near = batched_nms(boxes, scores, classes, 0.5)[:30]
    boxes[5] = torch.tensor([0.0, 0.0, 2.0**24, 2.0**24])
    classes[5], scores[5] = 0, 0.0
    check(boxes, scores, classes, limit=30)
    assert not torch.equal(batched_nms(boxes, scores, classes, 0.5)[:30], near)


def test_another_batched_nms_is_noticed(monkeypatch, caplog):
    """A version that never goes class by class, and one that keeps the worse of two boxes."""

    def always_shifted(boxes, scores, classes, iou):
        return box_ops._batched_nms_coordinate_trick(boxes, scores, classes, iou)

    def soft(boxes, scores, classes, iou):
        return batched_nms(boxes, scores, classes, iou).flip(0)

    for other in (always_shifted, soft):
        nms_probe._probe.cache_clear()
        warn_once.cache_clear()
        caplog.clear()
        monkeypatch.setattr(nms_probe, "batched_nms", other)
        monkeypatch.setattr(exact_nms, "batched_nms", other)
        assert suppression_of(CPU).switch is None
        suppression_of(CPU)
        assert len([r for r in caplog.records if "batched_nms" in r.message]) == 1
        boxes, scores, classes = candidates(1500, 9)
        expected = other(boxes, scores, classes, 0.5)[:10]
        keep = run(boxes, scores, classes, limit=10, suppression=suppression_of(CPU))
        assert torch.equal(keep, expected)
    nms_probe._probe.cache_clear()


def test_probe_leaves_the_random_state_alone():
    nms_probe._probe.cache_clear()
    state = torch.get_rng_state()
    suppression_of(CPU)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_probes_do_not_read_the_default_dtype(dtype):
    default = torch.get_default_dtype()
    nms_probe._probe.cache_clear()
    _knows_ties.cache_clear()
    known = _knows_ties("cpu")
    _knows_ties.cache_clear()
    torch.set_default_dtype(dtype)
    try:
        assert suppression_of(CPU) == Suppression(switch=1000, stable=True)
        assert _knows_ties("cpu") == known
    finally:
        torch.set_default_dtype(default)
        nms_probe._probe.cache_clear()
        _knows_ties.cache_clear()
