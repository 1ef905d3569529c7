"""Image classification: one class for each image, no background."""

from __future__ import annotations

from typing import Any

from lt_det.data.annotations.datasets import class_names_of
from lt_det.data.images.transforms import ImageBatchMapper
from lt_det.tasks.image_mapper import build_image_mapper, check_transform
from lt_det.tasks.task import Task


class ImageClassification(Task):
    """Whole images, mapped in batches, in many-, medium- and few-shot classes."""

    has_background = False
    one_class_an_image = True

    @classmethod
    def from_config(cls, cfg: Any) -> ImageClassification:
        """Read DATASETS, LT_DET.CLASSIFICATION and LT_DET.CLASS_STATS.

        Raises:
            ValueError: if FEW_MAX and MEDIUM_MAX are no limits, or TRANSFORM has augmentations
                that it would not apply.
        """
        images, node = cfg.LT_DET.CLASSIFICATION, cfg.LT_DET.CLASS_STATS
        if not 0 <= images.FEW_MAX < images.MEDIUM_MAX:
            raise ValueError(
                "LT_DET.CLASSIFICATION must have 0 <= FEW_MAX < MEDIUM_MAX, got "
                f"{images.FEW_MAX} and {images.MEDIUM_MAX}"
            )
        check_transform(images.TRANSFORM)
        return cls(
            training_sets=tuple(cfg.DATASETS.TRAIN),
            test_sets=tuple(cfg.DATASETS.TEST),
            counted_sets=tuple(node.DATASETS) or tuple(cfg.DATASETS.TRAIN),
            num_classes_key="LT_DET.CLASSIFICATION.NUM_CLASSES",
            configured_classes=images.NUM_CLASSES,
            unit=node.UNIT,
            count_source=node.SOURCE,
            rare_max=images.FEW_MAX,
            common_max=images.MEDIUM_MAX,
        )

    @staticmethod
    def build_mapper(cfg: Any, *, is_train: bool) -> ImageBatchMapper:
        """Return the mapper of LT_DET.CLASSIFICATION.TRANSFORM."""
        return build_image_mapper(cfg, is_train=is_train)

    @staticmethod
    def build_feature_keys(cfg: Any) -> list:
        """Return backbone, transform and pooled map."""
        images = cfg.LT_DET.CLASSIFICATION
        transform = images.TRANSFORM.clone()
        transform.defrost()
        if transform.NAME != "none":
            transform.TEST_RESIZE = 0  # of test images only
        return [cfg.LT_DET.CIFAR_RESNET.dump(), transform.dump(), images.FEATURE]

    def num_classes(self) -> int:
        """Return K; where it is not configured, of the training set, or else of the test set.

        Raises:
            ValueError: if it is 0 and no data set is named.
        """
        if self.configured_classes:
            return self.configured_classes
        names = (*self.training_sets, *self.test_sets)
        if not names:
            raise ValueError(
                f"{self.num_classes_key} is 0, from the data set, but DATASETS.TRAIN and "
                "DATASETS.TEST are empty"
            )
        return len(class_names_of(names[0]))
