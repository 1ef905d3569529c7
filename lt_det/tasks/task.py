"""Task: the kind of work of a config, and the parts that it needs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lt_det.config_errors import naming_keys
from lt_det.data.annotations.datasets import class_names_of, class_stats_of
from lt_det.data.stats.class_stats import ClassStats, Unit
from lt_det.data.stats.json_stats import CountSource


@dataclass(frozen=True)
class Task(abc.ABC):
    """Classes, frequency groups, mapper and loaders of a kind of work.

    Plain values: it can be pickled with a model. No method registers a data set; reading them is
    left to :meth:`num_classes` and :meth:`class_stats`.

    Attributes:
        training_sets: data sets of DATASETS.TRAIN.
        test_sets: data sets of DATASETS.TEST.
        counted_sets: data sets whose classes are counted; empty if none is named.
        num_classes_key: config key of the number of classes.
        configured_classes: its value; 0 is as many as the data set has, if the task allows it.
        unit: what losses count, "image" or "instance".
        count_source: see :func:`lt_det.data.stats.json_stats.count_json`.
        rare_max: most training images of a rare (few-shot) class.
        common_max: most training images of a common (medium-shot) class.
    """

    training_sets: tuple[str, ...]
    test_sets: tuple[str, ...]
    counted_sets: tuple[str, ...]
    num_classes_key: str
    configured_classes: int
    unit: Unit
    count_source: CountSource
    rare_max: int
    common_max: int

    #: Whether softmax losses have a last column for the background.
    has_background: ClassVar[bool]
    #: Whether an image has exactly one class: then images can be drawn by their class, and
    #: the mapper takes the records of a batch instead of one record.
    one_class_an_image: ClassVar[bool]

    @classmethod
    @abc.abstractmethod
    def from_config(cls, cfg: Any) -> Task:
        """Return the task of a config.

        Raises:
            ValueError: if keys of this task contradict each other.
        """

    @staticmethod
    @abc.abstractmethod
    def build_mapper(cfg: Any, *, is_train: bool) -> Callable[[Any], Any]:
        """Return the mapper: a record to a sample, or with ``one_class_an_image`` lists of both."""

    @staticmethod
    @abc.abstractmethod
    def build_feature_keys(cfg: Any) -> list:
        """Return the values of LT_DET that change pooled features beside backbone and INPUT."""

    def num_classes(self) -> int:
        """Return K, the number of foreground classes of the model.

        Raises:
            ValueError: if it is to come from a data set and none is named.
        """
        return self.configured_classes

    def class_stats(self) -> ClassStats:
        """Return the class statistics of the training set, checked against the model's classes.

        Raises:
            ValueError: if no training set is named, the number of classes is another one than the
                model's, or the counted sets have other classes than those trained on.
            KeyError: if a data set is not registered.
            FileNotFoundError: if its files are missing.
        """
        if not self.counted_sets:
            raise ValueError(
                "DATASETS.TRAIN is empty: class statistics need the training set. Name it there or "
                "in LT_DET.CLASS_STATS.DATASETS"
            )
        with naming_keys(
            rare_max="LT_DET.CLASS_STATS.RARE_MAX",
            common_max="LT_DET.CLASS_STATS.COMMON_MAX",
            count_source="LT_DET.CLASS_STATS.SOURCE",
        ):
            stats = class_stats_of(
                self.counted_sets,
                count_source=self.count_source,
                rare_max=self.rare_max,
                common_max=self.common_max,
            )
        num_classes = self.num_classes()
        if stats.num_classes != num_classes:
            raise ValueError(
                f"{self.num_classes_key} is {num_classes}, but data set {stats.name!r} has "
                f"{stats.num_classes} classes: set {self.num_classes_key} {stats.num_classes}"
            )
        if self.counted_sets != self.training_sets:
            for name in self.training_sets:
                _check_same_classes(stats, name, class_names_of(name))
        return stats


def _check_same_classes(stats: ClassStats, name: str, trained: Sequence[str]) -> None:
    differing = [pair for pair in zip(trained, stats.class_names) if pair[0] != pair[1]]
    if differing or len(trained) != stats.num_classes:
        raise ValueError(
            f"LT_DET.CLASS_STATS.DATASETS {stats.name!r} and DATASETS.TRAIN {name!r} must have "
            f"the same classes in the same order, got {stats.num_classes} and {len(trained)}; "
            f"{len(differing)} differ, first {differing[:3]}"
        )
