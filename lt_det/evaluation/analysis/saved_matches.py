"""Matches of an evaluation as a file, from which two runs are compared without ground truth."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import open_regular

_VERSION = 1


@dataclass(frozen=True)
class SavedMatches:
    """Content of such a file.

    Attributes:
        iou_type: "bbox" or "segm".
        max_dets: detections counted for each image.
        names: of the K classes.
        groups: "r", "c", "f" or None of each class.
        objects: where the objects are; without those to ignore.
        matches: judged detections.
        truth: :meth:`Objects.digest` of the ground truth; "" in older files.
    """

    iou_type: str
    max_dets: int
    names: Sequence[str]
    groups: Sequence[str | None]
    objects: ObjectPlaces
    matches: Matches
    truth: str = ""

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all: 14 bytes a detection, before compression."""
        about = {
            "version": _VERSION,
            "iou_type": self.iou_type,
            "max_dets": self.max_dets,
            "names": list(self.names),
            "groups": list(self.groups),
            "truth": self.truth,
        }
        kept = ~self.objects.ignored
        with atomic_file(path, "wb") as file:
            _write_arrays(
                file,
                about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
                image_ids=self.objects.image_ids,
                category_ids=self.objects.category_ids,
                object_images=self.objects.images[kept].astype(np.int32),
                object_classes=self.objects.classes[kept].astype(np.int32),
                classes=self.matches.classes,
                images=self.matches.images,
                scores=self.matches.scores,
                found=_bits(self.matches.found),
                counted=_bits(self.matches.counted),
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SavedMatches:
        """Return the content of a file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is no such file, or of another version.
        """
        try:
            with open_regular(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                data = {name: arrays[name] for name in arrays.files}
            about = json.loads(data["about"].tobytes())
            version = about["version"]
            names, groups = about["names"], about["groups"]
            places = ObjectPlaces(
                image_ids=data["image_ids"],
                category_ids=data["category_ids"],
                images=data["object_images"].astype(np.int64),
                classes=data["object_classes"].astype(np.int64),
                ignored=np.zeros(len(data["object_images"]), dtype=bool),
            )
            matches = Matches(
                data["classes"],
                data["images"],
                data["scores"],
                _bools(data["found"]),
                _bools(data["counted"]),
            )
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{os.fspath(path)} holds no matches of an evaluation") from error
        if version != _VERSION:
            raise ValueError(
                f"{os.fspath(path)} is of version {version}, expected {_VERSION}: evaluate again"
            )
        truth = about.get("truth", "")
        return cls(about["iou_type"], about["max_dets"], names, groups, places, matches, truth)


def _write_arrays(file: IO[bytes], **arrays: np.ndarray) -> None:
    """Write what :func:`numpy.load` reads, compressed in a quarter of NumPy's time."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _bits(masks: np.ndarray) -> np.ndarray:
    """Return ``(N,)`` uint16 of ``(N, 10)`` bool."""
    return (masks << np.arange(10, dtype=np.uint16)).sum(axis=1, dtype=np.uint16)


def _bools(bits: np.ndarray) -> np.ndarray:
    return (bits[:, None] >> np.arange(10, dtype=np.uint16) & 1).astype(bool)
