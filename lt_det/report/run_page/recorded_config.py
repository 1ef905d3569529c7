"""Read the config.yaml that a run has left: the only file of the report that knows its keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lt_det.storage.regular_file import open_regular

#: Keys that seeds of one method differ in.
_OF_A_RUN = ("SEED", "OUTPUT_DIR", "MODEL.WEIGHTS", "VERSION")


@dataclass(frozen=True)
class RecordedConfig:
    """Content of a config.yaml, of ours or of Detectron2; what it does not say is None.

    Attributes:
        content: of the file, {} without one.
        path: of the file, None without one.
    """

    content: Mapping[str, Any]
    path: str | None = None

    @classmethod
    def read(cls, folder: str) -> RecordedConfig:
        """Return the config in the folder of a run; a file with tags of Python counts as none."""
        for name in ("config.yaml", "balanced.yaml"):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                try:
                    with open_regular(path, "r", encoding="utf-8") as file:
                        content = yaml.safe_load(file)
                except (yaml.YAMLError, ValueError, RecursionError):
                    continue
                return cls(content, path) if isinstance(content, dict) else cls({})
        return cls({})

    @property
    def seed(self) -> Any:
        """Seed of the run."""
        return self._value("SEED")

    @property
    def training_sets(self) -> list[str]:
        """Names of the data sets that were trained on."""
        return _texts(self._value("DATASETS.TRAIN"))

    @property
    def test_sets(self) -> list[str]:
        """Names of the data sets that were evaluated on."""
        return _texts(self._value("DATASETS.TEST"))

    def facts(self) -> dict[str, Any]:
        """Return what a reader wants to know of the training and the limits of detections."""
        architecture = self._value("MODEL.META_ARCHITECTURE")
        head = "MODEL.RETINANET" if architecture == "RetinaNet" else "MODEL.ROI_HEADS"
        meta = self._value("LT_DET.META.METHOD") if self._value("LT_DET.META.ENABLED") else "none"
        return {
            "model": architecture,
            "loss": self._value("LT_DET.LOSS"),
            "sampler": self._value("DATALOADER.SAMPLER_TRAIN"),
            "meta learner": None if self._value("LT_DET.META") is None else meta,
            "iterations": self._value("SOLVER.MAX_ITER"),
            "score threshold": self._value(f"{head}.SCORE_THRESH_TEST"),
            "NMS": self._value(f"{head}.NMS_THRESH_TEST"),
            "detections an image": self._value("TEST.DETECTIONS_PER_IMAGE"),
        }

    def registered(self, names: Sequence[str]) -> tuple[str, str] | None:
        """Return json and image folder of the first of the data sets that is registered and there.

        Args:
            names: of data sets.
        """
        sets = self._value("LT_DET.DATASETS")
        entries = [e for e in sets if isinstance(e, list)] if isinstance(sets, list) else []
        known = {str(e[0]): (str(e[1]), str(e[2])) for e in entries if len(e) >= 3}
        there = (known[name] for name in names if name in known)
        return next((found for found in there if os.path.isfile(found[0])), None)

    def chosen(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return key -> value, without the keys that seeds of one method differ in.

        Args:
            defaults: content of a config at its defaults. What is as there is left out: a key that
                came with a later version and was left alone makes no other method.
        """
        found, usual = _flat(self.content), _flat(defaults)
        return {
            key: value
            for key, value in found.items()
            if key not in _OF_A_RUN and (key not in usual or usual[key] != value)
        }

    def _value(self, name: str) -> Any:
        node: Any = self.content
        for part in name.split("."):
            if not isinstance(node, Mapping):
                return None
            node = node.get(part)
        return node


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


def _flat(node: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """Return the names of keys, parts joined by dots, and their values."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{before}{key}"
        found.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return found
