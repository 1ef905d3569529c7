"""Counts that the categories of a json declare, compared with what the json holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lt_det.data.annotations.checks import is_trained_on
from lt_det.data.annotations.naming import NUM_NAMED, shortened

#: "same": the counts of the json; "more": those of a whole of which it may be a part, as a subset
#: of LVIS's images is; "other": neither can be.
Verdict = Literal["same", "more", "other"]


@dataclass(frozen=True)
class DeclaredCounts:
    """``image_count`` and ``instance_count`` of the categories of a json.

    Attributes:
        images: K declared numbers of images.
        instances: K declared numbers of instances.
        verdict: of the comparison with the annotations.
        differing: one text for each class that led to the verdict.
    """

    images: tuple[int, ...]
    instances: tuple[int, ...]
    verdict: Verdict
    differing: tuple[str, ...] = ()

    def what(self) -> str:
        """Return in words how they differ from what is counted; "" where they do not."""
        keys = "'image_count' and 'instance_count'"
        return {
            "same": "",
            "more": f"{keys} say more than the json holds",
            "other": f"{keys} are neither those of the json nor those of a data set of which it "
            "is a part",
        }[self.verdict]

    def doubts(self, *, taken: bool) -> list[str]:
        """Return a warning of what differs, none if nothing does.

        Args:
            taken: whether the declared numbers are, in place of those counted.
        """
        if self.verdict == "same":
            return []
        if not taken:
            end = "what is there is counted: correct the two, or remove them"
        elif self.verdict == "more":
            end = (
                "the declared numbers are taken, as for a part of LVIS. If they are of another "
                "version of the data, count what is there: count_source 'annotations' "
                "(CLASS_STATS.SOURCE in a config)"
            )
        else:
            end = "they are taken, as count_source 'categories' asks"
        return [
            f"{self.what()}, in {len(self.differing)} of {len(self.images)} categories, first "
            f"{', '.join(self.differing[:NUM_NAMED])}; {end}"
        ]


def declared_counts(
    categories: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> DeclaredCounts | None:
    """Return what the categories declare; None unless each has both whole numbers, not all 0.

    A whole has at least the images of its part, at least one more instance for each further image,
    and no further instance of a class without a further image. Crowds may be counted or not.

    Args:
        categories: K of a json, whose ids are different.
        annotations: all of it.
    """
    images = tuple(category.get("image_count") for category in categories)
    instances = tuple(category.get("instance_count") for category in categories)
    if not all(type(number) is int for number in images + instances) or not any(images + instances):
        return None
    ids = [category.get("id") for category in categories]
    counted = [
        _counts(annotations, ids),
        _counts((one for one in annotations if is_trained_on(one)), ids),
    ]
    declared = list(zip(images, instances))
    if declared in counted:
        return DeclaredCounts(images, instances, "same")  # type: ignore[arg-type]
    pairs = list(zip(declared, *counted))
    wrong = [not any(_may_be_part(of, whole) for of in parts) for whole, *parts in pairs]
    differs = [whole not in parts for whole, *parts in pairs]
    verdict: Verdict = "other" if any(wrong) else "more"
    differing = tuple(
        f"{shortened(category.get('name'))} ({whole[0]} images and {whole[1]} instances declared, "
        f"{part[0]} and {part[1]} here)"
        for category, (whole, part, _), named in zip(
            categories, pairs, wrong if verdict == "other" else differs
        )
        if named
    )
    return DeclaredCounts(images, instances, verdict, differing)  # type: ignore[arg-type]


def _counts(annotations: Any, ids: Sequence[Any]) -> list[tuple[int, int]]:
    """Return numbers of images and of annotations of each category."""
    pairs = Counter((one.get("category_id"), one.get("image_id")) for one in annotations)
    images: Counter[Any] = Counter(category for category, _ in pairs)
    instances: Counter[Any] = Counter()
    for (category, _), number in pairs.items():
        instances[category] += number
    return [(images[i], instances[i]) for i in ids]


def _may_be_part(part: tuple[int, int], whole: tuple[int, int]) -> bool:
    images, instances = whole[0] - part[0], whole[1] - part[1]
    return instances >= images >= 0 and (images > 0 or instances == 0)
