"""Classes of images to classify: within a split, and of one split against the training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.findings import Finding, Harm
from lt_det.data.inspection.ids import repeated
from lt_det.data.stats.class_stats import ClassStats


def class_findings(
    source: str, class_names: Sequence[str], counts: np.ndarray, *, train: bool
) -> list[Finding]:
    """Return what is wrong with the classes of one folder or csv.

    Args:
        source: for the findings.
        class_names: K names.
        counts: ``(K,)`` images.
        train: whether it is trained on.
    """
    folded = [" ".join(name.lower().replace("_", " ").split()) for name in class_names]
    twice = repeated(folded)
    similar = [name for name, plain in zip(class_names, folded) if plain in twice]
    found = []
    if similar:
        found.append(
            _finding("warning", "similar-names", source, "the name differs from another by "
                     "capitals, blanks or underscores only", "one class or two?", similar,
                     len(class_names))
        )  # fmt: skip
    if not train:
        return found
    if len(class_names) == 1:
        found.append(
            Finding("error", "one-class", source, "there is one class only", "a classifier needs "
                    "two; are the class folders one folder deeper?")
        )  # fmt: skip
    for number, harm, kind, what, advice in (
        (0, "warning", "class-without-image", "no training image",
         "it cannot be learned; its prior is that of one image"),
        (1, "note", "class-of-one-image", "one training image only",
         "an only image is not held out, so the class has no accuracy without a --val of its own"),
    ):  # fmt: skip
        names = [name for name, count in zip(class_names, counts) if count == number]
        if names:
            found.append(
                _finding(harm, kind, source, what, advice, names, len(class_names))  # type: ignore[arg-type]
            )
    return found


def split_findings(source: str, train: ClassStats, counts: Mapping[str, int]) -> list[Finding]:
    """Return what does not fit between a split that is evaluated and the training images.

    Args:
        source: the folder or csv, for the findings.
        train: counts of the training images.
        counts: class name -> images of the split.
    """
    found = []
    unknown = [name for name, n in counts.items() if n and name not in train.class_names]
    if unknown:
        found.append(
            _finding("error", "class-not-trained", source, "images are of classes that the "
                     "training images lack", "give the class the same name, train on it too, or "
                     "take its images out", [f"{name} ({counts[name]} images)" for name in unknown],
                     len(counts))
        )  # fmt: skip
    without = [name for name in train.class_names if not counts.get(name)]
    if without:
        found.append(
            _finding("warning", "class-without-val-image", source, "no image here of classes of "
                     "the training", "their accuracy is undefined, the means are over the others",
                     without, train.num_classes)
        )  # fmt: skip
    return found


def _finding(
    harm: Harm, kind: str, source: str, what: str, advice: str, names: Sequence[str], total: int
) -> Finding:
    first = tuple(names[:NUM_NAMED])
    return Finding(harm, kind, source, what, advice, len(names), total, "classes", first)
