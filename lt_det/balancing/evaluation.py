"""Evaluate candidates on cached test images, several in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.structures import Instances

from lt_det.balancing.candidates import Candidate
from lt_det.balancing.replay import PostProcessing
from lt_det.evaluation.analysis.matches import Matches, match
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.evaluated_classes import category_ids_in_contiguous_order
from lt_det.evaluation.prediction_table import PredictionTable
from lt_det.evaluation.predictions import ImagePredictions

# Detections of all candidates that are held before they are matched, some 300 MB.
_HELD = 8_000_000
# Category id of a class that the data set does not have.
_ABSENT = np.iinfo(np.int64).min


class CandidateEvaluation:
    """Test images, their ground truth, and what finds detections in them."""

    def __init__(
        self,
        find: Callable[[int], Callable[..., list[Instances]]],
        image_ids: Sequence[int],
        *,
        limit: int,
        objects: Objects,
        metadata: Any,
        dataset_name: str,
    ) -> None:
        """Hold what all candidates share.

        Args:
            find: with the place of an image, returns what finds the detections of classifiers in
                it with several limits; see :meth:`lt_det.balancing.replay.Replay.image`.
            image_ids: of the images, by place.
            limit: of the detections of an image.
            objects: ground truth of these images.
            metadata: of the data set.
            dataset_name: for messages.
        """
        self._find, self._image_ids, self._limit = find, list(image_ids), limit
        self._objects = objects
        ids = category_ids_in_contiguous_order(
            metadata, objects.truth.category_ids, dataset_name=dataset_name
        )
        self._category_ids = [_ABSENT if i is None else i for i in ids]

    def __call__(
        self,
        candidates: Sequence[Candidate],
        settings: Sequence[PostProcessing],
        *,
        on_image: Callable[[], object] = lambda: None,
    ) -> list[list[Matches]]:
        """Return for each candidate the matches with each of ``settings``.

        Args:
            candidates: to evaluate.
            settings: limits.
            on_image: called after each image.
        """
        parts: dict[tuple[int, int], list[Matches]] = {}
        held: dict[tuple[int, int], list[ImagePredictions]] = {}
        for place, image_id in enumerate(self._image_ids):
            detections = self._find(place)
            for c, candidate in enumerate(candidates):
                for s, found in enumerate(detections(candidate.classifiers, settings)):
                    predictions = ImagePredictions.from_instances(found, image_id=image_id)
                    of_pair = held.setdefault((c, s), [])
                    of_pair.append(predictions)
            on_image()
            if held and sum(map(len, held[0, 0])) * len(held) > _HELD:
                self._match(held, parts)
        self._match(held, parts)
        return [
            [Matches.joined(parts[c, s]) for s in range(len(settings))]
            for c in range(len(candidates))
        ]

    def _match(
        self,
        held: dict[tuple[int, int], list[ImagePredictions]],
        parts: dict[tuple[int, int], list[Matches]],
    ) -> None:
        for pair, images in held.items():
            detections = PredictionTable.of_images(images).detections(
                category_ids=self._category_ids, with_masks=False
            )
            known = np.flatnonzero(detections.category_ids != _ABSENT)
            found = match(self._objects, detections.take(known), max_dets=self._limit)
            parts.setdefault(pair, []).append(found)
        held.clear()
