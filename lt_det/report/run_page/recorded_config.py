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
    """

    content: Mapping[str, Any]

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
                return cls(content if isinstance(content, dict) else {})
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

    def without_run(self) -> Any:
        """Return the content without the keys that seeds of one method differ in."""
        return _without(self.content, [key.split(".") for key in _OF_A_RUN])

    def _value(self, name: str) -> Any:
        node: Any = self.content
        for part in name.split("."):
            if not isinstance(node, Mapping):
                return None
            node = node.get(part)
        return node


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


def _without(node: Any, keys: Sequence[Sequence[str]]) -> Any:
    if not isinstance(node, Mapping):
        return node
    gone = {key[0] for key in keys if len(key) == 1}
    return {
        str(k): _without(v, [key[1:] for key in keys if len(key) > 1 and key[0] == k])
        for k, v in node.items()
        if k not in gone
    }
