"""The analysis equals a restatement with loops, and hotcoco where that has the number."""

from __future__ import annotations

import collections
from fractions import Fraction

import hotcoco
import numpy as np
import pytest

from lt_det.evaluation.analysis.analyse import analyse
from lt_det.evaluation.analysis.counts import FATES
from lt_det.evaluation.analysis.error_kinds import KINDS
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from tests.evaluation.analysis import scalar
from tests.evaluation.analysis.test_weighted_ap import data, detections_of

MAX_DETS = 12
GROUPS = "rcf"


def random_set(seed, **options):
    """Return a json and detections, some of them of another class, far off, or anywhere."""
    content, rows = data(seed, **options)
    rng = np.random.default_rng(seed + 100)
    rows = [
        (i, k, round(float(rng.random()), 2), (np.array(b) + rng.random(4)).tolist())
        for i, k, _, b in rows
    ]
    for _ in range(80):
        box = [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(5, 40, 2).tolist()]
        rows.append((int(rng.integers(1, 25)), int(rng.integers(1, 8)), float(rng.random()), box))
    return content, rows


def analysed(content, rows, *, max_dets=MAX_DETS, **options):
    truth, found = read_ground_truth(content, with_masks=False), detections_of(rows)
    result = lvis_average_precision(truth, found, iou_type="bbox", max_dets=max_dets)
    options.setdefault("resamples", 0)
    return analyse(truth, found, result, options=AnalysisOptions(**options)), result


def in_group(content, group):
    categories = content["categories"]
    return {c["id"] for c in categories if group in ("all", c["frequency"])}


@pytest.mark.parametrize("federated", [True, False])
@pytest.mark.parametrize("crowds", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_restatement(seed, federated, crowds):
    content, rows = random_set(seed, federated=federated, crowds=crowds)
    analysis, _ = analysed(content, rows)
    fates = scalar.judged(content, rows, max_dets=MAX_DETS)
    counted = collections.Counter(fate for fate, _ in fates)
    assert {fate: analysis.counts[fate] for fate in FATES} == {f: counted[f] for f in FATES}
    assert sum(analysis.counts[fate] for fate in FATES) == len(rows)
    kinds = {
        n: scalar.error_kind(content, rows, fates, n)
        for n, (fate, _) in enumerate(fates)
        if fate == "false"
    }
    for group, figures in analysis.groups.items():
        members = in_group(content, group)
        number = collections.Counter(kind for n, kind in kinds.items() if rows[n][1] in members)
        for kind in KINDS[:-1]:
            assert figures["errors"][kind]["count"] == number[kind], (group, kind)
        of_group = [n for n, (f, _) in enumerate(fates) if rows[n][1] in members and f == "excused"]
        assert figures["excused"] == len(of_group)
        scores = [rows[n][2] for n, (f, _) in enumerate(fates)
                  if f in ("found", "false") and rows[n][1] in members]  # fmt: skip
        right = [f == "found" for n, (f, _) in enumerate(fates)
                 if f in ("found", "false") and rows[n][1] in members]  # fmt: skip
        error, largest = hotcoco.metrics.calibration_error(scores, right, 10)
        assert figures["calibration"]["error"] == pytest.approx(100 * error, abs=1e-9)
        assert figures["calibration"]["largest_error"] == pytest.approx(100 * largest, abs=1e-9)
    # What nothing finds and no error of place or class is near to.
    found = {a["id"] for fate, a in fates if fate == "found"}
    assert analysis.groups["all"]["errors"]["missed"]["count"] <= sum(
        a["id"] not in found and not scalar.is_ignored(a) for a in content["annotations"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_best_thresholds_equal_the_best_of_all_tried(seed):
    content, rows = random_set(seed)
    analysis, _ = analysed(content, rows)
    fates = scalar.judged(content, rows, max_dets=MAX_DETS)
    for row in analysis.classes:
        k = row["category_id"]
        own = [(rows[n][2], f) for n, (f, _) in enumerate(fates) if rows[n][1] == k]
        best = None
        for threshold in sorted({score for score, f in own if f in ("found", "false")}):
            kept = [f for score, f in own if score >= threshold and f in ("found", "false")]
            true, number = kept.count("found"), row["num_gt_instances"]
            if number and true:
                point = (
                    Fraction(200 * true, len(kept) + number),
                    threshold,
                    Fraction(100 * true, len(kept)),
                    Fraction(100 * true, number),
                )
                best = max(best or point, point)
        if best is None:
            assert row["threshold"] is None
        else:
            assert row["threshold"] == best[1]
            assert row["f1"] == pytest.approx(float(best[0]), rel=1e-12)
            assert row["precision"] == pytest.approx(float(best[2]), rel=1e-12)
            assert row["recall"] == pytest.approx(float(best[3]), rel=1e-12)
        judged = [f for _, f in own if f not in ("unjudged", "over_limit")]
        assert row["num_judged"] == len(judged)


@pytest.mark.parametrize("federated", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_confusion_equals_the_restatement(seed, federated):
    content, rows = random_set(seed, federated=federated)
    analysis, _ = analysed(content, rows)
    fates = scalar.judged(content, rows, max_dets=MAX_DETS)
    group = {c["id"]: c["frequency"] for c in content["categories"]}
    pairs, certain = collections.Counter(), collections.Counter()
    table = {g: collections.Counter() for g in GROUPS}
    for a, n in scalar.first_detected(content, rows, max_dets=MAX_DETS):
        own = a["category_id"]
        if n is None:
            table[group[own]]["missed"] += 1
        elif rows[n][1] == own:
            table[group[own]]["right"] += 1
        else:
            table[group[own]][group[rows[n][1]]] += 1
            pairs[own, rows[n][1]] += 1
            certain[own, rows[n][1]] += fates[n][0] != "unjudged"
    found = {(r["category_id"], r["detected_id"]): r for r in analysis.confusion}
    assert {pair: row["objects"] for pair, row in found.items()} == dict(pairs)
    assert {pair: row["certain"] for pair, row in found.items()} == {p: certain[p] for p in pairs}
    for g, row in analysis.confusion_groups.items():
        assert row == {name: table[g][name] for name in ("right", *GROUPS, "missed")}
    order = [(GROUPS.index(r["group"]), -GROUPS.index(r["detected_group"]), -r["objects"])
             for r in analysis.confusion]  # fmt: skip
    assert order == sorted(order)


@pytest.mark.parametrize("seed", range(4))
def test_errors_equal_hotcoco_where_all_is_annotated(seed):
    content, rows = random_set(seed, federated=False)
    rng = np.random.default_rng(seed)
    rows = [(i, k, float(rng.random()), b) for i, k, _, b in rows]
    analysis, _ = analysed(content, rows, max_dets=100)
    annotations = [{**a, "area": float(a["area"])} for a in content["annotations"]]
    truth = hotcoco.COCO({**content, "annotations": annotations})
    found = truth.load_res(
        [{"image_id": i, "category_id": k, "score": s, "bbox": b} for i, k, s, b in rows]
    )
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    expected = evaluation.tide_errors()
    short = dict(zip(KINDS, ("Loc", "Cls", "Dupe", "Bkg", "Both", "Miss")))
    errors = analysis.groups["all"]["errors"]
    assert {short[k]: e["count"] for k, e in errors.items()} == expected["counts"]
    for kind, error in errors.items():
        gain = 100 * expected["delta_ap"][short[kind]]
        assert error["AP50_gain"] == pytest.approx(gain, abs=1e-6), kind


@pytest.mark.parametrize("seed", range(3))
def test_ap_fixed_is_ap_of_the_best_of_each_class(seed):
    content, rows = random_set(seed, crowds=seed == 2)
    analysis, result = analysed(content, rows, per_class=20)
    best = []
    for k in in_group(content, "all"):
        own = sorted((n for n, row in enumerate(rows) if row[1] == k), key=lambda n: -rows[n][2])
        best += own[:20]
    cut = [rows[n] for n in sorted(best)]
    unlimited = lvis_average_precision(content, detections_of(cut), iou_type="bbox", max_dets=1000)
    np.testing.assert_allclose(
        [row["AP_fixed"] for row in analysis.classes],
        [c.ap for c in unlimited.per_category],
        rtol=0,
        atol=1e-9,
    )
    for group in ("r", "c", "f"):
        np.testing.assert_allclose(
            analysis.groups[group]["AP_fixed"], unlimited.summary[f"AP{group}"], atol=1e-9
        )
    assert analysis.groups["all"]["AP"] == result.summary["AP"]


def _merged(content, rows):
    """Return the set with the objects of each class moved apart, as one class."""
    annotations, moved = [], []
    images = [
        {**i, "neg_category_ids": [1], "not_exhaustive_category_ids": []} for i in content["images"]
    ]
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        annotations.append({**a, "category_id": 1, "bbox": [x + 1000 * a["category_id"], y, w, h]})
    for i, k, s, (x, y, w, h) in rows:
        moved.append((i, 1, s, [x + 1000 * k, y, w, h]))
    categories = [{"id": 1, "name": "1", "frequency": "r"}]
    return {"images": images, "annotations": annotations, "categories": categories}, moved


def test_pooled_curve_of_an_exhaustive_set_is_that_of_one_class():
    content, rows = random_set(5, federated=False)
    rng = np.random.default_rng(1)
    rows = [(i, k, float(rng.random()), b) for i, k, _, b in rows]
    analysis, _ = analysed(content, rows, max_dets=1000)
    _, merged = analysed(*_merged(content, rows), max_dets=1000)
    assert analysis.groups["all"]["AP_pool"] == pytest.approx(merged.summary["AP"], abs=1e-9)
    assert analysis.groups["all"]["AP_pool"] != pytest.approx(analysis.groups["all"]["AP"], abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_hotcoco(seed):
    content, rows = random_set(seed)
    analysis, _ = analysed(content, rows, max_dets=300)
    truth = hotcoco.COCO(
        {
            **content,
            "annotations": [{**a, "area": float(a["area"])} for a in content["annotations"]],
        }
    )
    found = truth.load_res(
        [{"image_id": i, "category_id": k, "score": s, "bbox": b} for i, k, s, b in rows]
    )
    evaluation = hotcoco.LVISeval(truth, found, "bbox")
    evaluation.run()
    expected = 100 * evaluation.get_results()["AR@300"]
    assert analysis.groups["all"]["AR"] == pytest.approx(expected, abs=1e-9)


def test_sizes_within_a_group_are_those_of_its_classes():
    content, rows = random_set(2)
    _, result = analysed(content, rows)
    for group in GROUPS:
        kept = in_group(content, group)
        part = {
            **content,
            "categories": [c for c in content["categories"] if c["id"] in kept],
            "annotations": [a for a in content["annotations"] if a["category_id"] in kept],
        }
        within = scalar.limited(rows, MAX_DETS)
        own = [row for n, row in enumerate(rows) if within[n] and row[1] in kept]
        alone = lvis_average_precision(part, detections_of(own), iou_type="bbox").summary
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
            np.testing.assert_allclose(result.by_group[group][name], alone[name], atol=1e-9)


def test_intervals_hold_the_value_and_come_from_resamples():
    content, rows = random_set(4)
    analysis, _ = analysed(content, rows, resamples=50)
    for group, figures in analysis.groups.items():
        if np.isfinite(figures["AP"]):
            low, high = figures["AP_interval"]
            assert low < figures["AP"] < high, group
            assert figures["AP50_interval"][0] < figures["AP50"] < figures["AP50_interval"][1]
        else:
            assert figures["AP_interval"] is None
    again, _ = analysed(content, rows, resamples=50)
    assert again.groups["all"]["AP_interval"] == analysis.groups["all"]["AP_interval"]
    other, _ = analysed(content, rows, resamples=50, seed=1)
    assert other.groups["all"]["AP_interval"] != analysis.groups["all"]["AP_interval"]


def test_nothing_detected():
    content, _ = random_set(0)
    analysis, _ = analysed(content, [])
    assert analysis.groups["all"]["AP"] == analysis.groups["all"]["AP_pool"] == 0.0
    assert analysis.groups["all"]["calibration"]["error"] is None
    number = analysis.counts["objects"]
    assert analysis.groups["all"]["errors"]["missed"] == {"count": number, "AP50_gain": 100.0}
    for row in analysis.classes:
        expected = "never detected" if row["num_gt_instances"] else "undefined: this set has no"
        assert row["why"].startswith(expected)


def test_no_objects():
    content, rows = random_set(0)
    analysis, _ = analysed({**content, "annotations": []}, rows)
    assert np.isnan(analysis.groups["all"]["AP_fixed"])
    assert np.isnan(analysis.groups["all"]["AP_pool"])
    assert analysis.groups["all"]["AP_interval"] is None
    assert analysis.counts["found"] == 0
    assert all(row["why"] == "undefined: this set has no object of it" for row in analysis.classes)


def test_one_class_without_groups():
    content, rows = random_set(1)
    one = {
        "images": content["images"],
        "annotations": [a for a in content["annotations"] if a["category_id"] == 2],
        "categories": [{"id": 2, "name": "only"}],
    }
    analysis, result = analysed(one, [row for row in rows if row[1] == 2], resamples=20)
    assert list(analysis.groups) == ["all"]
    assert analysis.groups["all"]["AP_fixed"] == pytest.approx(result.summary["AP"])
    assert analysis.confusion == []
    assert analysis.confusion_groups == {}
