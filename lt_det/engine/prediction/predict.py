"""Predict on files and folders with a trained model, and write what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lt_det.data.images.depth import deep_images
from lt_det.engine.prediction.batches import BrokenImage, predictions
from lt_det.engine.prediction.class_files import (
    ON_SHEET,
    ClassifiedImage,
    save_class_csv,
    save_class_sheet,
    top_classes,
)
from lt_det.engine.prediction.detection_files import annotations_of, kept_instances, save_picture
from lt_det.engine.prediction.image_files import ImageFile, find_images
from lt_det.engine.prediction.thresholds import (
    DEFAULT_THRESHOLD,
    THRESHOLDS_FILE,
    check_threshold,
    read_thresholds,
)
from lt_det.engine.prediction.trained_model import TrainedRun, find_trained_run
from lt_det.engine.startup.output_folder import check_output_folder
from lt_det.storage.atomic_write import atomic_file
from lt_det.version import __version__

# Images at once, of detectors and classifiers.
_BATCH_SIZES = {False: 4, True: 64}


@dataclass
class Predicted:
    """What :func:`predict` found and wrote.

    Attributes:
        images: predicted images, their path below the folder that all share.
        content: the json of the detections; of a classifier rows ``{"file_name", "classes",
            "scores"}`` under "images".
        broken: images that could not be read.
        files: what was written: path -> what it is.
        notes: what the user should know, a sentence each.
    """

    images: list[str] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)
    broken: list[BrokenImage] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def predict(
    weights: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    config_file: str | None = None,
    options: Sequence[str] = (),
    threshold: float | None = None,
    thresholds_file: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    top_k: int = 5,
    pictures: bool = True,
) -> Predicted:
    """Predict on images and write a json and pictures, of a classifier a csv and a sheet.

    A detection is kept where its score reaches the threshold of its class: ``threshold`` for all,
    else those of ``thresholds_file``, else those of ``thresholds.json`` beside the weights, else
    0.5.

    Args:
        weights: checkpoint, or folder of a run.
        inputs: images and folders.
        output: folder of what is written.
        config_file: path or name; None is ``config.yaml`` beside the weights.
        options: KEY VALUE pairs on top of it.
        threshold: from 0 to 1.
        thresholds_file: json, see :mod:`lt_det.engine.prediction.thresholds`.
        batch_size: most images at once; None is 4 for detectors, 64 for classifiers.
        top_k: classes of an image that a classifier names.
        pictures: False writes no pictures.

    Raises:
        FileNotFoundError: if weights, config, thresholds or inputs are missing.
        ValueError: if they do not fit each other, or not one image can be read.
    """
    check_output_folder(os.fspath(output), name="output")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    notes: list[str] = []
    images = find_images(inputs, leave_out=output, notes=notes)
    run = find_trained_run(weights, config_file=config_file, options=options)
    result = Predicted(notes=[*run.notes, *notes])
    writer: _ClassWriter | _DetectionWriter
    if run.task.one_class_an_image:
        for name, value in (("threshold", threshold), ("thresholds_file", thresholds_file)):
            if value is not None:
                raise ValueError(f"{name}: a classifier of images has no thresholds")
        model = run.build()
        writer = _ClassWriter(run, result, output, top_k=top_k, pictures=pictures)
    else:
        thresholds, source = _thresholds(run, threshold, thresholds_file)
        model = run.build(lowest_score=float(thresholds.min()))
        writer = _DetectionWriter(
            run, result, output, thresholds=thresholds, source=source, pictures=pictures
        )
        result.notes += _note_of_depth(images)
    found = predictions(
        model,
        images,
        run.task.build_mapper(run.cfg, is_train=False),
        maps_batches=run.task.one_class_an_image,
        batch_size=batch_size or _BATCH_SIZES[run.task.one_class_an_image],
        num_workers=run.cfg.DATALOADER.NUM_WORKERS,
    )
    try:
        for one in found:
            if isinstance(one, BrokenImage):
                result.broken.append(one)
            else:
                writer.add(*one)
                result.images.append(one[0].name)
    except BaseException:
        if result.images:
            writer.finish(complete=False)  # hours of work, until the memory or a user ended it
        raise
    if not result.images:
        first = result.broken[0]
        raise ValueError(
            f"none of the {len(images)} images could be read, the first, {first.name}: "
            f"{first.reason}"
        )
    writer.finish(complete=True)
    return result


def _thresholds(
    run: TrainedRun, threshold: float | None, file: str | os.PathLike[str] | None
) -> tuple[np.ndarray, str]:
    """Return the ``(K,)`` thresholds and where they come from."""
    if threshold is not None:
        value = check_threshold(threshold, what="threshold")
        return np.full(len(run.class_names), value), f"{value:g} for all classes"
    beside = os.path.join(os.path.dirname(run.weights), THRESHOLDS_FILE)
    path = beside if file is None and os.path.isfile(beside) else file
    if path is None:
        default = DEFAULT_THRESHOLD
        return np.full(len(run.class_names), default), f"{default:g} for all classes"
    return read_thresholds(path, run.class_names), os.fspath(path)


def _note_of_depth(images: Sequence[ImageFile]) -> list[str]:
    deep = deep_images(image.path for image in images)
    if not deep:
        return []
    return [
        f"{len(deep)} images have grey values of more than 8 bits, which are cut at 255, first "
        f"{deep[0]}: save them with 8 bits."
    ]


class _DetectionWriter:
    """Collects detections for ``predictions.json``, and draws each image at once."""

    def __init__(
        self,
        run: TrainedRun,
        result: Predicted,
        output: str | os.PathLike[str],
        *,
        thresholds: np.ndarray,
        source: str,
        pictures: bool,
    ) -> None:
        self._run, self._result, self._output = run, result, os.fspath(output)
        self._thresholds, self._source, self._pictures = thresholds, source, pictures
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: ImageFile, output: dict[str, Any]) -> None:
        """Take in what the model says of an image.

        Raises:
            ValueError: if the model detects no boxes.
        """
        if "instances" not in output:
            raise ValueError(
                f"the model gives {sorted(output)} and no instances: only detectors and image "
                "classifiers can be used here"
            )
        instances = kept_instances(output["instances"], self._thresholds)
        height, width = instances.image_size
        number = len(self._images) + 1
        self._images.append(
            {"id": number, "file_name": image.name, "width": width, "height": height}
        )
        self._annotations += annotations_of(
            instances,
            image_id=number,
            category_ids=self._run.category_ids,
            first_id=len(self._annotations) + 1,
        )
        if self._pictures:
            path = os.path.join(self._output, "pictures", *image.name.split("/"))
            save_picture(image, instances, self._run.class_names, path)

    def finish(self, *, complete: bool) -> None:
        """Write the json; it says whether all images are in it."""
        pairs = zip(self._run.category_ids, self._run.class_names)
        self._result.content = {
            "info": {
                "weights": self._run.weights,
                "thresholds": self._source,
                "lt_det": __version__,
                "complete": complete,
            },
            "images": self._images,
            "categories": [{"id": i, "name": name} for i, name in sorted(pairs)],
            "annotations": self._annotations,
        }
        path = os.path.join(self._output, "predictions.json")
        with atomic_file(path) as file:
            json.dump(self._result.content, file)
        count = len(self._annotations)
        self._result.files[path] = f"{count} detections, thresholds: {self._source}"
        if not count and complete:
            self._result.notes.append(
                f"Nothing reaches the thresholds ({self._source}): try a lower one, such as "
                f"{max(float(self._thresholds.min()) / 10, 0.001):.2g}. After a short training all "
                "scores are low."
            )
        if self._pictures:
            folder = os.path.join(self._output, "pictures")
            self._result.files[folder] = f"{len(self._images)} pictures"


class _ClassWriter:
    """Collects the classes of images for ``predictions.csv`` and the sheet."""

    def __init__(
        self,
        run: TrainedRun,
        result: Predicted,
        output: str | os.PathLike[str],
        *,
        top_k: int,
        pictures: bool,
    ) -> None:
        self._run, self._result, self._output = run, result, os.fspath(output)
        self._top_k, self._pictures = top_k, pictures
        self._images: list[ClassifiedImage] = []

    def add(self, image: ImageFile, output: dict[str, Any]) -> None:
        """Take in what the model says of an image."""
        scores = output["scores"].double().cpu().numpy()
        self._images.append(
            ClassifiedImage(image.name, image.path, *top_classes(scores, number=self._top_k))
        )

    def finish(self, *, complete: bool) -> None:
        """Write csv and sheet, of what was cut short the csv only."""
        names = self._run.class_names
        self._result.content = {
            "images": [
                {
                    "file_name": image.name,
                    "classes": [names[k] for k in image.classes],
                    "scores": list(image.scores),
                }
                for image in self._images
            ]
        }
        path = os.path.join(self._output, "predictions.csv")
        save_class_csv(self._images, names, path)
        self._result.files[path] = f"the {len(self._images[0].classes)} best classes of each image"
        if self._pictures and complete:
            sheet = os.path.join(self._output, "sheet.png")
            save_class_sheet(self._images, names, sheet)
            shown = min(ON_SHEET, len(self._images))
            self._result.files[sheet] = f"the first {shown} of {len(self._images)} images"
