"""Evaluate the masks of a detector on the images of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper, MetadataCatalog
from torch import nn
from tqdm import tqdm

from lt_det.balancing.detector_subject import DetectorSubject
from lt_det.evaluation.analysis.matches import judge
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.weighted_ap import class_aps, group_means
from lt_det.evaluation.evaluated_classes import category_ids_in_contiguous_order
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from lt_det.evaluation.prediction_table import PredictionTable
from lt_det.evaluation.predictions import ImagePredictions

# Category id of a class that the data set does not have.
_ABSENT = np.iinfo(np.int64).min


@torch.no_grad()
def mask_figures(
    detector: nn.Module, subject: DetectorSubject, weights: np.ndarray
) -> dict[str, Any]:
    """Return the AP of masks and boxes, of all images and of each resample of them.

    One pass of the whole detector over all test images: masks cannot be had from cached regions.

    Args:
        detector: with masks, in evaluation mode.
        subject: test images and groups.
        weights: ``(1 + B, I)``, all images first, then resamples.
    """
    name = subject.choose_on
    metadata: Any = MetadataCatalog.get(name)
    objects = Objects.of(read_ground_truth(metadata.json_file, with_masks=True, name=name))
    known = category_ids_in_contiguous_order(
        metadata, objects.truth.category_ids, dataset_name=name
    )
    ids = [_ABSENT if i is None else i for i in known]
    mapper = DatasetMapper(subject.cfg, is_train=False)
    images = []
    for record in tqdm(subject.test_dicts, unit="img", desc="masks", disable=None):
        (output,) = detector([mapper(record)])
        found = output["instances"].to("cpu")
        images.append(ImagePredictions.from_instances(found, image_id=record["image_id"]))
    detections = PredictionTable.of_images(images).detections(category_ids=ids, with_masks=True)
    detections = detections.take(np.flatnonzero(detections.category_ids != _ABSENT))
    detections = detections.top_scoring(subject.replay.limit)
    groups = subject.groups()
    means = {
        task: group_means(
            class_aps(objects, judge(objects, detections, iou_type=task).matches, weights), groups
        )
        for task in ("segm", "bbox")
    }
    return {
        **{metric: float(values[0]) for metric, values in means["segm"].items()},
        "resamples": {m: np.round(v[1:], 4).tolist() for m, v in means["segm"].items()},
        "box AP": float(means["bbox"]["AP"][0]),
    }
