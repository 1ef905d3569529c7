"""What copy-paste draws, and how much of it it keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lt_det.data.copy_paste.crops import Crop, CropCache
from lt_det.data.copy_paste.masks import mask_of
from lt_det.data.copy_paste.sources import PasteSources
from lt_det.data.records.stored_records import StoredRecords

#: Classes of the annotations of 20 images: 0 in all, 1 in 4, 2 in 1 (twice); 3 is a crowd.
RECORDS = [
    {
        "annotations": [
            {"category_id": 0},
            *({"category_id": 1} for _ in range(i % 5 == 0)),
            *({"category_id": 2} for _ in range(2 * (i == 7))),
            *({"category_id": 3, "iscrowd": 1} for _ in range(i == 9)),
        ]
    }
    for i in range(20)
]


def test_classes_are_drawn_by_their_repeat_factor_and_objects_evenly():
    sources = PasteSources(RECORDS, threshold=0.25)
    assert sources.classes.tolist() == [1, 2]
    weights = [math.sqrt(0.25 / 0.2), math.sqrt(0.25 / 0.05)]
    assert sources.probabilities == pytest.approx([w / sum(weights) for w in weights])
    np.random.seed(0)
    draws = [sources.draw() for _ in range(4000)]
    for c, row, place in draws:
        assert RECORDS[row]["annotations"][place]["category_id"] == c
    found = {draw: draws.count(draw) / len(draws) for draw in set(draws)}
    assert set(found) == {(1, i, 1) for i in (0, 5, 10, 15)} | {(2, 7, 1), (2, 7, 2)}
    for draw, share in found.items():
        objects = 4 if draw[0] == 1 else 2
        expected = sources.probabilities[draw[0] - 1] / objects
        assert share == pytest.approx(expected, abs=0.03)


def test_stored_records_are_drawn_from_alike():
    one = PasteSources(RECORDS, threshold=0.25)
    other = PasteSources(StoredRecords.packed(RECORDS), threshold=0.25)
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != PasteSources(RECORDS, threshold=0.2).fingerprint()


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (0.0, r"threshold must be in \(0, 1\], got 0.0"),
        (1.5, r"threshold must be in \(0, 1\], got 1.5"),
        (0.05, "threshold 0.05 leaves no class to paste: the rarest is in 0.05 of the images"),
    ],
)
def test_thresholds(threshold, text):
    with pytest.raises(ValueError, match=text):
        PasteSources(RECORDS, threshold=threshold)


def crop(side: int) -> Crop:
    return Crop(np.zeros((side, side, 3), np.uint8), np.ones((side, side), bool))


def test_the_crops_used_last_are_kept_in_bounded_memory():
    made = []
    cache = CropCache(250)  # two of 100 bytes

    def get(key: int, side: int = 5) -> None:
        cache.get(key, lambda: made.append(key) or crop(side))

    for key in (1, 2, 1, 3, 1, 2):
        get(key)
        assert cache.num_bytes <= 250
    assert made == [1, 2, 3, 2]  # 2 was used last when 3 came
    get(4, side=20)  # alone larger than all
    assert (len(cache), cache.num_bytes) == (2, 200)
    nothing = CropCache(0)
    nothing.get(1, lambda: crop(1))
    assert len(nothing) == 0


def test_a_crop_in_another_size():
    one = Crop(np.full((4, 6, 3), 9, np.uint8), np.arange(24).reshape(4, 6) % 6 < 3)
    twice = one.resized(8, 12)
    assert twice.pixels.shape == (8, 12, 3)
    assert (twice.pixels == 9).all()
    assert np.array_equal(twice.mask, one.mask.repeat(2, axis=0).repeat(2, axis=1))


def test_run_lengths_must_be_of_the_image():
    runs = {"size": [2, 3], "counts": [1, 2, 3]}
    assert mask_of(runs, height=2, width=3).tolist() == [[False, True, False], [True, False, False]]
    with pytest.raises(ValueError, match=r"is of \[2, 3\] pixels, its image of \[3, 2\]"):
        mask_of(runs, height=3, width=2)
