"""The analysis of masks: matches, edges and overlaps."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_utils
import pytest

from lt_det.evaluation.analysis.analyse import analyse
from lt_det.evaluation.analysis.matches import judge
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.analysis.overlaps import edge_of, touching
from lt_det.evaluation.analysis.weighted_ap import class_aps
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from tests.evaluation.lvis.sets import random_detections, random_ground_truth


def random_set(seed, **options):
    rng = np.random.default_rng(seed)
    content = random_ground_truth(rng, **options)
    found = Detections.from_records(random_detections(rng, content, per_image=30))
    return read_ground_truth(content, with_masks=True), found


def edge_by_hand(pixels, distance):
    """Return the pixels with a pixel outside the mask, or the image, within the distance."""
    padded = np.pad(pixels, distance)
    edge = np.zeros_like(pixels)
    for y, x in np.argwhere(pixels):
        square = padded[y : y + 2 * distance + 1, x : x + 2 * distance + 1]
        edge[y, x] = not square.all()
    return edge


@pytest.mark.parametrize("seed", range(3))
def test_matches_give_the_ap_of_the_evaluation(seed):
    truth, found = random_set(seed)
    objects = Objects.of(truth)
    result = lvis_average_precision(truth, found, iou_type="segm")
    matches = judge(objects, found, iou_type="segm").matches
    aps = class_aps(objects, matches, np.ones((1, len(objects.image_ids))))[0]
    np.testing.assert_allclose(aps, [c.ap for c in result.per_category], rtol=0, atol=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_what_touches_is_all_that_overlaps(iou_type):
    truth, found = random_set(3)
    objects = Objects.of(truth)
    expected = {}
    image_ids = objects.image_ids[objects.images]
    for row in range(len(found)):
        places = np.flatnonzero((image_ids == found.image_ids[row]) & ~objects.ignored)
        if iou_type == "segm":
            one, others = [found.masks[row]], [objects.masks[p] for p in places]
        else:
            one, others = found.boxes[row : row + 1], objects.boxes[places]
        if len(places):
            overlaps = mask_utils.iou(one, others, [0] * len(others))[0]
            expected |= {(row, p): v for p, v in zip(places.tolist(), overlaps) if v >= 0.1}
    rows, places, overlaps = touching(found, objects, iou_type=iou_type, lowest=0.1)
    assert set(zip(rows.tolist(), places.tolist())) == set(expected)
    for row, place, overlap in zip(rows.tolist(), places.tolist(), overlaps):
        assert overlap == pytest.approx(expected[row, place], abs=1e-12)


@pytest.mark.parametrize(("height", "width", "distance"), [(60, 80, 2), (30, 20, 1), (150, 120, 4)])
def test_the_edge_is_two_per_cent_of_the_diagonal_wide(height, width, distance):
    rng = np.random.default_rng(height)
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[:20, 3:18] = 1  # at the border of the image
    pixels[rng.integers(0, 20, 3), rng.integers(3, 18, 3)] = 0
    pixels[25:29, 5:19] = 1
    code = mask_utils.encode(np.asfortranarray(pixels))
    np.testing.assert_array_equal(mask_utils.decode(edge_of(code)), edge_by_hand(pixels, distance))


def test_boundary_ap_takes_the_smaller_overlap():
    truth, found = random_set(1, num_images=4)
    result = lvis_average_precision(truth, found, iou_type="segm")
    options = AnalysisOptions(boundary=True, resamples=0)
    analysis = analyse(truth, found, result, options=options)
    objects = Objects.of(truth)

    def by_hand(detections, objects, rows, places):
        overlaps = []
        for row, place in zip(rows, places):
            one, other = detections.masks[row], objects.masks[place]
            of_masks = mask_utils.iou([one], [other], [0])[0, 0]
            edges = [edge_by_hand(mask_utils.decode(m), 4) for m in (one, other)]  # 2 % of 181
            both, either = edges[0] & edges[1], edges[0] | edges[1]
            overlaps.append(min(of_masks, both.sum() / max(either.sum(), 1)))
        return np.array(overlaps)

    matches = judge(objects, found, iou_type="segm", overlaps=by_hand).matches
    expected = class_aps(objects, matches, np.ones((1, len(objects.image_ids))))[0]
    boundary = analysis.groups["all"]["AP_boundary"]
    assert boundary == pytest.approx(np.nanmean(expected), abs=1e-9)
    assert boundary < analysis.groups["all"]["AP"] - 1
    without = analyse(truth, found, result, options=AnalysisOptions(resamples=0))
    assert without.groups["all"]["AP_boundary"] is None


def test_masks_and_boxes_have_their_own_errors():
    truth, found = random_set(2)
    errors = []
    for iou_type in ("bbox", "segm"):
        result = lvis_average_precision(truth, found, iou_type=iou_type)
        analysis = analyse(truth, found, result, options=AnalysisOptions(resamples=0))
        errors.append([e["count"] for e in analysis.groups["all"]["errors"].values()])
        assert analysis.groups["all"]["AP_fixed"] == pytest.approx(result.summary["AP"])
    assert errors[0] != errors[1]
