"""Predictions and detections as flat arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch.distributed as dist

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis import backends
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.backends import hotcoco_precision
from lt_det.evaluation.lvis.encoded_masks import EncodedMasks
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from lt_det.evaluation.main_rank import arrays_on_main_rank
from lt_det.evaluation.prediction_table import PredictionTable
from lt_det.evaluation.predictions import ImagePredictions
from tests.evaluation.lvis.sets import random_detections, random_ground_truth
from tests.processes import spawn_within


def masks(rng: np.random.Generator, count: int) -> list[dict]:
    """Masks of several sizes, so that codes have several lengths; one of them empty."""
    grids = [
        np.asfortranarray(rng.random((4 + k % 3, 9)) < (0.4 if k else 0), dtype=np.uint8)
        for k in range(count)
    ]
    return [mask_utils.encode(grid) for grid in grids]


def plain(coded) -> list[tuple]:
    return [(tuple(mask["size"]), mask["counts"]) for mask in coded]


def test_encoded_masks_are_the_dictionaries_they_were_made_of():
    given = masks(np.random.default_rng(0), 300)  # more than pycocotools takes at once
    coded = EncodedMasks.from_dicts(given)
    assert plain(coded) == plain(given)
    rows = np.array([299, 5, 5, 0])
    assert plain(coded.take(rows)) == plain([given[k] for k in rows])
    assert coded.take(rows).codes is coded.codes  # selecting copies no code
    boxes, areas = coded.boxes_and_areas()
    np.testing.assert_array_equal(boxes, [mask_utils.toBbox(mask) for mask in given])
    np.testing.assert_array_equal(areas, [mask_utils.area(mask) for mask in given])
    as_text = [{**mask, "counts": mask["counts"].decode()} for mask in given]
    assert plain(EncodedMasks.from_dicts(as_text)) == plain(given)


def images(rng: np.random.Generator, counts: list[int], *, first_id: int) -> list[ImagePredictions]:
    return [
        ImagePredictions(
            image_id=first_id + k,
            boxes=rng.random((count, 4)).astype(np.float32),
            scores=rng.random(count).astype(np.float32),
            labels=rng.integers(0, 3, size=count),
            mask_counts=[mask["counts"] for mask in masks(rng, count)] if k else None,
            mask_size=(4, 9),
        )
        for k, count in enumerate(counts)
    ]


def test_a_table_keeps_every_prediction():
    given = images(np.random.default_rng(1), [0, 3, 0, 2], first_id=10)
    table = PredictionTable.of_images(given)
    assert table.tasks() == ("bbox", "segm")
    found = table.detections(category_ids=[7, 5, 6], with_masks=True)
    assert found.image_ids.tolist() == [11, 11, 11, 13, 13]
    assert found.category_ids.tolist() == [
        [7, 5, 6][label] for image in given for label in image.labels
    ]
    assert [mask["counts"] for mask in found.masks] == given[1].mask_counts + given[3].mask_counts
    np.testing.assert_array_equal(found.boxes, np.concatenate([image.boxes for image in given]))
    assert found.boxes.dtype == np.float32  # half of the memory until something is computed
    assert PredictionTable.of_images(given[:1]).tasks() == ("bbox",)


def test_the_wrong_image_is_named_behind_images_without_predictions():
    given = images(np.random.default_rng(1), [0, 3, 0, 2], first_id=10)
    given[3].labels[1] = 3
    with pytest.raises(ValueError, match="image 13: predicted class 3"):
        PredictionTable.of_images(given).detections(category_ids=[7, 5, 6], with_masks=False)
    given[3].labels[1] = 0
    bare = images(np.random.default_rng(1), [2], first_id=14)
    table = PredictionTable.of_images([*given, *bare])
    with pytest.raises(ValueError, match="image 14: task 'segm'"):
        table.detections(category_ids=[7, 5, 6], with_masks=True)


def _gather(rank: int, folder) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=3
    )
    import lt_det.evaluation.main_rank as main_rank

    main_rank._MESSAGE = 64  # several messages for one array
    table = PredictionTable.of_images(part(rank))
    arrays = arrays_on_main_rank(table.arrays())
    if rank == 0:
        np.savez(folder / "joined.npz", **arrays)
    else:
        assert arrays == {}
    dist.barrier()


def part(rank: int) -> list[ImagePredictions]:
    """The main rank saw no image, the others unequally many."""
    counts = [[], [2, 0, 30], [1, 25, 0, 4]][rank]
    return images(np.random.default_rng(rank), counts, first_id=100 * rank)


def test_arrays_of_three_ranks_arrive_in_their_order(tmp_path):
    spawn_within(_gather, (tmp_path,), nprocs=3, new=True)
    expected = PredictionTable.of_images([*part(0), *part(1), *part(2)]).arrays()
    with np.load(tmp_path / "joined.npz") as joined:
        assert set(joined) == set(expected)
        for name, array in expected.items():
            assert joined[name].dtype == array.dtype
            np.testing.assert_array_equal(joined[name], array, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_judged_is_annotated_or_listed_as_absent(seed):
    rng = np.random.default_rng(seed)
    truth = random_ground_truth(rng)
    truth["images"][0]["neg_category_ids"].append(77)  # a category that the json does not have
    found = Detections.from_records(random_detections(rng, truth, per_image=40))
    ground_truth = read_ground_truth(truth, with_masks=False)
    pairs = {(a["image_id"], a["category_id"]) for a in ground_truth.annotations}
    pairs |= {(i["id"], c) for i in truth["images"] for c in i["neg_category_ids"]}
    asked = zip(found.image_ids.tolist(), found.category_ids.tolist())
    judged = ground_truth.is_judged(found)
    assert judged.tolist() == [pair in pairs for pair in asked]
    assert 0.1 < judged.mean() < 0.9


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_only_judged_detections_reach_the_backend(iou_type, monkeypatch):
    import hotcoco

    rng = np.random.default_rng(0)
    truth = random_ground_truth(rng)
    found = Detections.from_records(random_detections(rng, truth, per_image=40))
    ground_truth = read_ground_truth(truth, with_masks=True)
    sizes = []

    class Watched:
        def __init__(self, truth):
            self.truth = truth

        @classmethod
        def from_arrays(cls, *args, **kwargs):
            return cls(hotcoco.COCO.from_arrays(*args, **kwargs))

        def load_res(self, table, **kwargs):
            assert isinstance(table, np.ndarray)
            sizes.append(len(table))
            return self.truth.load_res(table, **kwargs)

    def evaluation(truth, found, iou_type):
        return hotcoco.LVISeval(truth.truth, found, iou_type)

    library = SimpleNamespace(COCO=Watched, LVISeval=evaluation)
    monkeypatch.setattr(backends, "_import_hotcoco", lambda: library)
    hotcoco_precision(ground_truth, found, iou_type=iou_type, max_dets=300)
    rows = np.flatnonzero(ground_truth.is_judged(found))
    areas = found.take(rows).geometry(iou_type)[1]
    assert sizes == [(areas > 0).sum()]
    assert 0 < sizes[0] < len(found)


def test_single_precision_boxes_give_the_same_as_their_doubles():
    rng = np.random.default_rng(3)
    truth = random_ground_truth(rng)
    double = Detections.from_records(random_detections(rng, truth, per_image=30))
    single = Detections(
        image_ids=double.image_ids,
        category_ids=double.category_ids,
        scores=double.scores.astype(np.float32),
        boxes=double.boxes.astype(np.float32),
    )
    sides = single.boxes[:, 2:].astype(np.float64)
    np.testing.assert_array_equal(single.geometry("bbox")[1], sides.prod(axis=1))
    records = list(single.records())
    assert records[0]["bbox"] == single.boxes[0].astype(float).tolist()
    expected = lvis_average_precision(truth, records, iou_type="bbox", backend="lvis-api")
    actual = lvis_average_precision(truth, single, iou_type="bbox")
    for metric, value in expected.summary.items():
        assert actual.summary[metric] == pytest.approx(value, abs=1e-9, nan_ok=True)
