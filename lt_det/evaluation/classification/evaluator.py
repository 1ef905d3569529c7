"""Evaluation of image classification, as a Detectron2 evaluator."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import SHOT_NAMES
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.classification.metrics import (
    bootstrap_intervals,
    class_accuracies,
    expected_calibration_error,
    likelihood_histogram,
    mean_accuracy,
    natural_accuracy,
)
from lt_det.evaluation.main_rank import main_rank_result
from lt_det.evaluation.results import per_category_files, write_json, write_per_category

logger = logging.getLogger(__name__)

#: Task of the results, and part of the names of the files.
TASK = "classification"
_COLUMNS = (
    *("category_id", "name", "group", "num_train_images", "num_test_images"),
    *("accuracy", "accuracy_low", "accuracy_high"),
)


class ClassificationEvaluator(DatasetEvaluator):
    """Top-1 and its parts, the same on every rank, all in percent.

    ``{"classification": {"top1", "mean_class", "many", "medium", "few", "natural", "ece",
    "ece_many", "ece_medium", "ece_few"}}``: see :mod:`lt_det.evaluation.classification.metrics`.
    "mean_class" is the mean of the class accuracies; on a balanced test set it is "top1". NaN where
    nothing can be said: no class in a group, or no training statistics.

    With ``output_dir`` it writes ``per_category_classification.{json,csv}``, one row a class with
    its bootstrap interval, and ``likelihood.json``, the histograms by group.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        class_stats: ClassStats | None = None,
        output_dir: str | None = None,
        distributed: bool = True,
        confidence: float = 0.95,
    ) -> None:
        """Prepare for a data set.

        Args:
            class_names: of its K classes.
            class_stats: of the TRAINING set; without it groups and natural accuracy are NaN.
            output_dir: where files go; None writes none.
            distributed: evaluate what all ranks have seen together.
            confidence: probability of the bootstrap intervals.

        Raises:
            ValueError: if ``class_stats`` has other classes.
        """
        if class_stats is None:
            logger.warning("many, medium and few will be nan: no class_stats given")
        elif tuple(class_names) != class_stats.class_names:
            raise ValueError(
                f"class_stats of {class_stats.name!r} has {class_stats.num_classes} classes, the "
                f"test set {len(class_names)}, or their names or order differ: training and test "
                "set must list the same classes"
            )
        self._names, self._stats = tuple(class_names), class_stats
        self._output_dir, self._distributed = output_dir, distributed
        self._confidence = confidence
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        # Columns: image id, label, predicted class | confidence, likelihood of the label.
        self._ids: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take in a batch.

        Args:
            inputs: dicts with "image_id" and "category_id".
            outputs: dicts with "scores" ``(K,)``, probabilities.
        """
        scores = torch.stack([output["scores"] for output in outputs]).float().cpu()
        labels = torch.tensor([x["category_id"] for x in inputs])
        confidence, predicted = scores.max(dim=1)
        likelihood = scores.gather(1, labels[:, None])[:, 0]
        ids = torch.tensor([x["image_id"] for x in inputs])
        self._ids.append(torch.stack([ids, labels, predicted], dim=1).numpy())
        self._probabilities.append(torch.stack([confidence, likelihood], dim=1).numpy())

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the results.

        Raises:
            ValueError: if there was no image.
        """
        results = main_rank_result(
            lambda: (
                np.concatenate([np.zeros((0, 3), np.int64), *self._ids]),
                np.concatenate([np.zeros((0, 2), np.float32), *self._probabilities]),
            ),
            self._evaluate,
            distributed=self._distributed,
        )
        logger.info("%s", ", ".join(f"{key} {value:.2f}" for key, value in results.items()))
        return {TASK: results}

    def _evaluate(self, arrays: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
        num_classes = len(self._names)
        ids, probabilities = arrays
        if self._distributed and comm.get_world_size() > 1:
            parts = comm.gather((ids, probabilities))
            if not comm.is_main_process():
                return {}
            ids = np.concatenate([part[0] for part in parts])
            probabilities = np.concatenate([part[1] for part in parts])
        if not len(ids):
            raise ValueError("there is no image to evaluate: DATASETS.TEST is empty")
        # Ranks may have seen an image twice.
        _, first = np.unique(ids[:, 0], return_index=True)
        labels, predicted = ids[first, 1], ids[first, 2]
        confidence, likelihood = probabilities[first].T
        correct = labels == predicted
        accuracies = class_accuracies(labels, predicted, num_classes=num_classes)
        groups = self._groups()
        in_group = {name: np.isin(labels, members) for name, members in groups.items()}
        results = {
            "top1": float(correct.mean()),
            "mean_class": mean_accuracy(accuracies, np.arange(num_classes)),
            **{name: mean_accuracy(accuracies, members) for name, members in groups.items()},
            "natural": (
                natural_accuracy(accuracies, np.array(self._stats.image_counts))
                if self._stats
                else float("nan")
            ),
            "ece": expected_calibration_error(confidence, correct),
            **{
                f"ece_{name}": expected_calibration_error(confidence[chosen], correct[chosen])
                for name, chosen in in_group.items()
            },
        }
        results = {key: 100.0 * value for key, value in results.items()}
        if self._output_dir is not None:
            everything = {"all": np.arange(num_classes), **groups}
            in_group = {"all": np.ones(len(labels), bool), **in_group}
            files = [*per_category_files(self._output_dir, TASK), self._likelihood_file]
            with beside_results(f"writing {files[0]} and the likelihoods", files=files):
                intervals = bootstrap_intervals(
                    accuracies,
                    np.bincount(labels, minlength=num_classes),
                    everything,
                    confidence=self._confidence,
                )
                self._write_classes(results, labels, accuracies, intervals)
                self._write_likelihood(likelihood, in_group)
        return results

    def _groups(self) -> dict[str, np.ndarray]:
        if self._stats is None:
            return {name: np.zeros(0, np.int64) for name in SHOT_NAMES.values()}
        members = self._stats.group_members()
        return {name: members[group] for group, name in SHOT_NAMES.items()}

    def _write_classes(
        self,
        results: Mapping[str, float],
        labels: np.ndarray,
        accuracies: np.ndarray,
        intervals: tuple[np.ndarray, dict[str, tuple[float, float]]],
    ) -> None:
        bounds, group_bounds = intervals
        images = np.bincount(labels, minlength=len(self._names))
        stats = self._stats
        rows = [
            {
                "category_id": c,
                "name": name,
                "group": SHOT_NAMES[stats.frequency_groups[c]] if stats else None,
                "num_train_images": stats.image_counts[c] if stats else None,
                "num_test_images": int(images[c]),
                "accuracy": 100.0 * float(accuracies[c]),
                "accuracy_low": 100.0 * float(bounds[c, 0]),
                "accuracy_high": 100.0 * float(bounds[c, 1]),
            }
            for c, name in enumerate(self._names)
        ]
        about = {
            "confidence": self._confidence,
            "intervals": {k: [100.0 * v for v in pair] for k, pair in group_bounds.items()},
            "class_stats": stats.to_dict() if stats else None,
        }
        write_per_category(
            self._output_dir or "",
            iou_type=TASK,
            summary=results,
            categories=rows,
            about=about,
            columns=_COLUMNS,
        )

    @property
    def _likelihood_file(self) -> str:
        return os.path.join(self._output_dir or "", "likelihood.json")

    def _write_likelihood(self, likelihood: np.ndarray, chosen: Mapping[str, np.ndarray]) -> None:
        write_json(
            self._likelihood_file,
            {
                "bins": "equal width over [0, 1], probability of the image's own class",
                "share_of_images": {
                    name: likelihood_histogram(likelihood[mask]).tolist()
                    for name, mask in chosen.items()
                },
                "num_images": {name: int(mask.sum()) for name, mask in chosen.items()},
            },
        )
