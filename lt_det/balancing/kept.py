"""Keep what is finished, so that a stopped or repeated balance goes on where it was."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lt_det.balancing.candidates import Candidate
from lt_det.balancing.replay import PostProcessing
from lt_det.engine.regions.fingerprint import described_annotations
from lt_det.evaluation.results import write_json
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import open_regular


class KeptCandidates:
    """Folder with a file for each finished candidate: its classifiers and what it found."""

    def __init__(self, folder: Path, settings: Sequence[PostProcessing | None], kind: type) -> None:
        """Name the folder, and what is in it.

        Args:
            folder: of the output.
            settings: limits that candidates are evaluated with.
            kind: of what is judged: a dataclass of arrays.
        """
        self._folder, self._kind = folder / "candidates", kind
        self._limits = [asdict(s) if s else None for s in settings]

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        return self._folder / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}_{digest}.npz"

    def load(self, name: str) -> tuple[Candidate, list[Any]] | None:
        """Return a finished candidate with what it found with each limit; None if there is none."""
        found = self._read(name)
        return found if found is not None and found[1] else None

    def load_trained(self, name: str) -> Candidate | None:
        """Return a candidate whose classifiers are there, evaluated or not; None where not."""
        found = self._read(name)
        return found and found[0]

    def _read(self, name: str) -> tuple[Candidate, list[Any]] | None:
        """Return a candidate, with nothing found where it is not evaluated with these limits."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                classifiers = [
                    (torch.from_numpy(file[f"weight_{i}"]), torch.from_numpy(file[f"bias_{i}"]))
                    for i in range(about["stages"])
                ]
                evaluated = about["limits"] == self._limits
                found = [self._judged(file, i) for i in range(len(self._limits) * evaluated)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None  # written by another version, or damaged: it is done anew
        return Candidate(name, about["level"], classifiers, about["settings"]), found

    def _judged(self, file: Mapping[str, np.ndarray], i: int) -> Any:
        return self._kind(**{f.name: file[f"{f.name}_of_{i}"] for f in fields(self._kind)})

    def save(self, candidate: Candidate, judged: Sequence[Any] = ()) -> None:
        """Write a candidate, whole or not at all; nothing judged: it is not evaluated yet."""
        about = {
            "level": candidate.level,
            "settings": candidate.settings,
            "stages": len(candidate.classifiers),
            "limits": self._limits if judged else [],
        }
        arrays: dict[str, Any] = {"about": json.dumps(about)}
        for i, (weight, bias) in enumerate(candidate.classifiers):
            arrays[f"weight_{i}"], arrays[f"bias_{i}"] = weight.numpy(), bias.numpy()
        for i, found in enumerate(judged):
            arrays.update({f"{key}_of_{i}": value for key, value in vars(found).items()})
        with atomic_file(self._path(candidate.name), "wb") as file:
            np.savez_compressed(file, **arrays)


def check_same_balance(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what a folder is the balance of, or raise if it is of something else.

    Args:
        folder: of the output.
        about: key -> value, json.

    Raises:
        ValueError: names the folder and what differs.
    """
    path = folder / "balance.json"
    now = json.loads(json.dumps(about))
    try:
        was = _read_json(path)
    except (FileNotFoundError, json.JSONDecodeError):
        write_json(path, now)
        return
    differing = [key for key in {*was, *now} if was.get(key) != now.get(key)]
    if differing:
        shown = ", ".join(sorted(differing))
        raise ValueError(
            f"--output {folder} holds a balance of something else: {shown} differ. Choose another "
            "--output, or remove that folder"
        )


def kept_images(folder: Path, *, asked: int) -> tuple[list[int], list[int] | None] | None:
    """Return ids of the test images and rows of the training images of a balance begun before.

    How many fit into a budget depends on what else the machine does; a balance that goes on keeps
    those that it has. None where none was begun, or one with another number of test images.

    Args:
        folder: of the output.
        asked: number of test images that was asked for; 0 for none.
    """
    try:
        was = _read_json(folder / "balance.json")
        found = was["test images"], was["training images"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    return found if asked == was.get("--images", 0) else None


def annotations_digest(dicts: Iterable[Mapping[str, Any]]) -> str:
    """Return the sha256 of the classes, boxes and crowds of images, in hex."""
    digest = hashlib.sha256()
    for record in dicts:
        digest.update(described_annotations(record).encode())
    return digest.hexdigest()


def _read_json(path: Path) -> Any:
    with open_regular(path, "r", encoding="utf-8") as file:
        return json.load(file)
