"""Suppression among the best candidates gives what Detectron2's batched_nms gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torchvision
from detectron2.layers import batched_nms
from torchvision.ops import nms

from lt_det.modeling.postprocessing import nms as ours
from lt_det.modeling.postprocessing.candidates import Candidates
from lt_det.modeling.postprocessing.nms import best_survivors, most_shifted, survivors_by_class
from tests.modeling.postprocessing.reference import Waits

CPU = torch.device("cpu")


def draw(num, num_classes, *, levels=None, seed=0, spread=100.0, size=40.0, copies=1, device=CPU):
    """Random boxes; ``levels`` distinct scores; each box ``copies`` times in a row."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(-(-num // copies), 4, generator=generator)
    corners = corners.repeat_interleave(copies, dim=0)[:num]
    boxes = torch.cat([corners[:, :2] * spread, corners[:, :2] * spread + corners[:, 2:] * size], 1)
    scores = torch.rand(num, generator=generator)
    if levels is not None:
        scores = (scores * levels).ceil() / levels
    classes = torch.randint(0, num_classes, (num,), generator=generator)
    return boxes.to(device), scores.to(device), classes.to(device)


def run(boxes, scores, classes, *, limit, iou=0.5, threshold=-1.0, is_sound=True, asked=None):
    order = scores.sort(descending=True, stable=True)[1]
    listed = Candidates(scores[order], order, classes[order])

    def best(number):
        if asked is not None:
            asked.append(number)
        return listed.first(number)

    found = best_survivors(
        best,
        lambda some: boxes[some.regions],
        total=len(scores),
        score_threshold=threshold,
        iou_threshold=iou,
        limit=limit,
        is_sound=torch.tensor(is_sound, device=scores.device),
    )
    if found is None:
        return None
    survivors, kept_boxes = found
    assert torch.equal(kept_boxes.nan_to_num(7e6), boxes[survivors.regions].nan_to_num(7e6))
    assert torch.equal(survivors.scores, scores[survivors.regions])
    assert torch.equal(survivors.classes, classes[survivors.regions])
    return survivors.regions


def in_order(boxes, scores, classes, *, limit, iou=0.5, threshold=-1.0):
    """What batched_nms gives where no scores are equal: they become whole numbers."""
    order = scores.sort(descending=True, stable=True)[1]
    order = order[scores[order] > threshold]
    ranks = torch.arange(len(order), 0, -1, device=scores.device).float()
    keep = batched_nms(boxes[order], ranks, classes[order], iou)
    return order[keep[: limit if limit >= 0 else None]]


def check(boxes, scores, classes, **options):
    keep = run(boxes, scores, classes, **options)
    expected = in_order(boxes, scores, classes, **options)
    assert keep.dtype == expected.dtype
    assert torch.equal(keep, expected)
    return keep


@pytest.mark.parametrize("num", [0, 1, 2, 1000, 1001, 3000])
@pytest.mark.parametrize("limit", [-1, 0, 1, 40, 300, 10_000])
@pytest.mark.parametrize("levels", [None, 20, 1])
def test_any_size_limit_and_ties(num, limit, levels, device):
    for seed, num_classes in enumerate((1, 80, 400)):
        check(*draw(num, num_classes, levels=levels, seed=seed, device=device), limit=limit)


@pytest.mark.parametrize("iou", [0.0, 1e-6, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("copies", [1, 2, 7])
def test_any_overlap_and_duplicate_boxes(iou, copies, device):
    for seed in range(4):
        options = {"seed": seed, "copies": copies, "device": device}
        check(*draw(3000, 12, spread=1000.0 * (seed % 2) + 30, **options), limit=50, iou=iou)
        check(*draw(3000, 12, levels=400, **options), limit=50, iou=iou)


def test_only_what_scores_above_the_threshold_is_a_candidate(device):
    for num in (1500, 5000):
        for threshold in (0.1, 0.5, 0.85, 1.0):
            for levels in (None, 20):
                data = draw(num, 5, levels=levels, device=device)
                for limit in (-1, 20, 400):
                    check(*data, limit=limit, threshold=threshold)


def test_more_and_more_are_looked_at(monkeypatch, device):
    """Nearly all is suppressed; in the end all candidates are needed."""
    monkeypatch.setattr(ours, "_FIRST_ON_CPU", 16)
    monkeypatch.setattr(ours, "_FIRST", 16)
    for most in (2**14, 64):
        monkeypatch.setattr(ours, "_MOST", most)
        for seed in range(6):
            for levels in (None, 3000, 100, 5):
                data = draw(2500, 4, seed=seed, levels=levels, spread=60.0, size=80.0)
                data = [t.to(device) for t in data]
                for limit in (1, 5, 20, 60):
                    check(*data, limit=limit, iou=0.4)


def test_sizes_that_are_asked_for():
    asked = []
    run(*draw(40_000, 500, size=4.0), limit=100, asked=asked)
    assert asked == [1024]
    asked.clear()
    run(*draw(40_000, 1, spread=10.0, size=80.0), limit=200, iou=0.2, asked=asked)
    assert asked == [1024, 4096, 16384, 40_000]


def test_detectron2s_result_where_it_has_no_choice_among_equals(device):
    """Many equal scores, of boxes far from each other: another order of them changes no box."""
    boxes, scores, classes = draw(3000, 9, levels=200, seed=1, device=device)
    step = torch.arange(3000, device=device)
    boxes = torch.stack([step % 90 * 90, step // 90 * 90, step % 90 * 90, step // 90 * 90], 1)
    boxes = boxes + torch.tensor([0.0, 0, 20, 20], device=device)
    wanted = int((scores > 0.9).sum())  # all of the scores in question, or none
    keep = check(boxes, scores, classes, limit=wanted)
    expected = batched_nms(boxes, scores, classes, 0.5)[:wanted]
    assert torch.equal(keep.sort()[0], expected.sort()[0])
    assert torch.equal(scores[keep], scores[expected])


# --- Rounding ---


def near_threshold(seed, *, iou, num=30):
    """Boxes of width 1 at the origin whose height makes an overlap of ``iou``, give or take."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(1, generator=generator) * 90 + 10
    heights = iou ** torch.arange(num, dtype=torch.float64)
    heights = heights * (1 + (torch.rand(num, generator=generator) - 0.5) * 2e-7)
    boxes = torch.zeros(num, 4, dtype=torch.float64)
    boxes[:, 0] = torch.rand(1, generator=generator) * 50
    boxes[:, 2], boxes[:, 3] = boxes[:, 0] + scale, heights * scale * 3
    return boxes[boxes[:, 3] > 0.1].float()


@pytest.mark.parametrize("iou", [0.5, 0.6, 0.75, 0.9])
def test_overlaps_within_rounding_of_the_threshold(iou):
    """Without the margin float64 decides otherwise than float32."""
    wrong = 0
    for seed in range(40):
        boxes = near_threshold(seed, iou=iou)
        classes = torch.randint(0, 500, (1,)).expand(len(boxes))
        expected = nms(boxes, torch.arange(len(boxes), 0, -1).float(), iou).sort()[0]
        assert survivors_by_class(boxes, classes, iou, 100) is None
        alone = nms(boxes.double(), torch.arange(len(boxes), 0, -1).double(), iou).sort()[0]
        wrong += not torch.equal(alone, expected)
    assert wrong > 5


@pytest.mark.parametrize("limit", [20, 300])
def test_rounding_is_left_to_torchvision(limit, device):
    """Boxes on a coarse grid: their overlaps are the threshold, exactly or but for rounding."""
    undecided = 0
    for seed, scale in enumerate((1.0, 0.1, 1 / 3, 7.7)):
        boxes, scores, classes = draw(3000, 40, seed=seed, device=device)
        boxes = (boxes / 12).round() * scale * 4
        for iou in (1 / 3, 0.5, 2 / 3):
            check(boxes, scores, classes, limit=limit, iou=iou)
            undecided += survivors_by_class(boxes, classes, iou, limit) is None
    assert undecided > 3 or limit < 300


@pytest.mark.parametrize("scale", [1.0, 40.0, 0.01, 1e-4, 1e-20, 300.0, 1e5, 1e30])
def test_survivors_by_class_are_torchvisions_or_none(scale, device):
    """Whatever the boxes: where they are not plain, :func:`best_survivors` does not ask."""
    for seed in range(2):
        for num_classes in (1, 300, 16_384):
            boxes, scores, classes = draw(2500, num_classes, seed=seed, device=device)
            boxes, classes = boxes * scale, classes.sort()[0]
            plain = bool(ours._are_plain(boxes, classes))
            assert plain or scale not in (1.0, 40.0)
            check(boxes, scores, classes, limit=100)
            if plain:
                order = scores.argsort(descending=True)
                keep = survivors_by_class(boxes[order], classes[order], 0.5, 100)
                expected = in_order(boxes, scores, classes, limit=100)
                assert keep is None or torch.equal(order[keep], expected)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 5.0, 5.0), True),
        ((-5.0, -8000.0, 5.0, 5.0), True),
        ((3.0, 3.0, 3.0, 9.0), True),  # empty
        ((9.0, 3.0, 3.0, 9.0), True),  # the wrong way round
        ((7.0, 0.0, 7.001, 5.0), True),
        ((0.0, 0.0, 0.001, 5.0), False),
        ((0.0, 0.002, 9.0, 0.001), False),
        ((0.0, 0.002, 9.0, 3.0), True),
        ((0.0, 0.0, 9000.0, 5.0), False),
        ((0.0, 0.0, float("inf"), 5.0), False),
        ((0.0, float("nan"), 5.0, 5.0), False),
    ],
)
def test_boxes_for_which_the_margin_holds(box, expected):
    boxes = torch.tensor([[1.0, 2, 30, 40], box])
    assert bool(ours._are_plain(boxes, torch.tensor([0, 16_383]))) is expected
    assert not ours._are_plain(boxes, torch.tensor([0, 16_384]))


@pytest.mark.parametrize("value", [-7000.0, 1e30, float("inf"), float("nan")])
def test_boxes_that_are_not_plain_are_left_to_torchvision(value, device):
    for coordinate in range(4):
        boxes, scores, classes = draw(2500, 20, seed=coordinate, device=device)
        boxes[scores.topk(9)[1], coordinate] = value
        check(boxes, scores, classes, limit=100)


def test_boxes_the_wrong_way_round(device):
    """They overlap nothing."""
    boxes, scores, classes = draw(2500, 20, device=device)
    boxes[::3] = boxes[::3][:, [2, 1, 0, 3]]
    boxes[1::5] = boxes[1::5][:, [2, 3, 0, 1]]
    check(boxes, scores, classes, limit=200)
    boxes[1::3, 2] = boxes[1::3, 0]
    check(boxes, scores, classes, limit=200)


# --- What the installed torchvision does ---


def test_where_torchvision_changes_over(device):
    """Class 0 reaches out to 2^25, where float32 knows multiples of 4 only.

    Shifted that far, two boxes of class 1 overlap more than they do.
    """
    for num, shifted in ((most_shifted(device), True), (most_shifted(device) + 1, False)):
        boxes = torch.zeros(num, 4, device=device)
        boxes[:, 2:] = 2.0**25
        boxes[-2:, 2:] = 8.0
        boxes[-1, 3] = 2.9  # IoU 0.36; shifted 0.5
        scores = torch.linspace(1, 0.5, num, device=device)
        classes = torch.zeros(num, dtype=torch.int64, device=device)
        classes[-2:] = 1
        keep = batched_nms(boxes, scores, classes, 0.4)
        assert bool((keep != num - 1).all()) is shifted


@pytest.mark.parametrize(
    ("version", "expected"), [("0.15.2", 5000), ("0.21.0+cu124", 5000), ("0.22.1", 25_000)]
)
def test_where_it_changes_over_on_a_gpu(version, expected, monkeypatch):
    monkeypatch.setattr(torchvision, "__version__", version)
    assert most_shifted(torch.device("cuda")) == expected
    assert most_shifted(CPU) == 1000


def test_shifted_where_all_candidates_are_few(device):
    """Also with more scores than candidates; the farthest box has the lowest score."""
    boxes, scores, classes = draw(3000, 2, seed=3, spread=10.0, size=10.0, device=device)
    scores[900:] -= 2
    near = run(boxes, scores, classes, limit=30, threshold=0.0)
    lowest = scores[:900].argmin()
    boxes[lowest], classes[lowest] = torch.tensor([0.0, 0.0, 2.0**24, 2.0**24], device=device), 0
    far = check(boxes, scores, classes, limit=30, threshold=0.0)
    assert not torch.equal(near, far)


# --- A GPU is waited for three times ---


@pytest.mark.parametrize("levels", [None, 300])
@pytest.mark.parametrize("num", [800, 20_000])
def test_how_often_a_gpu_is_waited_for(num, levels, monkeypatch):
    data = draw(num, 500, levels=levels, size=4.0)
    waits = Waits().watch(monkeypatch)
    is_sound = torch.tensor(True)
    order = data[1].sort(descending=True, stable=True)[1]
    listed = Candidates(data[1][order], order, data[2][order])
    with waits:
        best_survivors(
            listed.first,
            lambda some: data[0][some.regions],
            total=num,
            score_threshold=0.0,
            iou_threshold=0.5,
            limit=300,
            is_sound=is_sound,
        )
    if num == 800:  # torchvision's own, which reads a value on a CPU only to choose its way
        assert waits.of["nms"] == waits.of["tolist"] == 1
    else:
        assert waits.of == {"tolist": 1, "nms": 2}


def test_what_is_not_sound_is_not_looked_at():
    assert run(*draw(2000, 5), limit=9, is_sound=False) is None
