"""Load the image lists of the training set beside its images, or beside cached regions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from lt_det.engine.regions.store import ImageRegions
from lt_det.losses.image_lists import CLASS_KNOWLEDGE
from lt_det.tasks import build_task
from lt_det.tasks.listed_mapper import ListedMapper

logger = logging.getLogger(__name__)


def build_listed_mapper(
    cfg: Any,
    dicts: Sequence[dict],
    mapper: Callable[[Any], Any],
    *,
    names: Sequence[str] = (),
) -> Callable[[Any], Any]:
    """Return ``mapper``, with LT_DET.IMAGE_LISTS.POLICY one that adds the lists of the images.

    Args:
        cfg: config.
        dicts: records of the training set.
        mapper: record -> sample.
        names: of the data sets; () are those of DATASETS.TRAIN.

    Raises:
        ValueError: if the data sets give their categories other ids.
    """
    task = build_task(cfg)
    names = tuple(names or cfg.DATASETS.TRAIN)
    unlisted = not cfg.LT_DET.IMAGE_LISTS.POLICY or task.one_class_an_image
    if unlisted or isinstance(mapper, ListedMapper):
        return mapper
    exhaustive = lists_are_absent(dicts)
    if exhaustive:
        logger.warning(
            "LT_DET.IMAGE_LISTS.POLICY %r: no image of %s %s has neg_category_ids; "
            "taken as annotated for all classes, as the evaluation does: nothing is hidden but "
            "not_exhaustive_category_ids",
            cfg.LT_DET.IMAGE_LISTS.POLICY,
            "DATASETS.TRAIN" if names == tuple(cfg.DATASETS.TRAIN) else "LT_DET.META.DATASETS",
            names,
        )
    return ListedMapper(
        mapper,
        num_classes=task.num_classes(),
        id_map=id_map_of(names),
        exhaustive=exhaustive,
    )


def lists_are_absent(dicts: Sequence[dict]) -> bool:
    """Return whether no image has negatives; then all classes are annotated, as in COCO."""
    return not any(record.get("neg_category_ids") for record in dicts)


def id_map_of(names: Sequence[str]) -> Mapping[int, int] | None:
    """Return json category id -> contiguous id of data sets; None: no json is known.

    Raises:
        ValueError: if they give their categories other ids.
    """
    maps = {}
    for name in names:
        metadata = MetadataCatalog.get(name)
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is None and metadata.get("evaluator_type") == "lvis":
            # Detectron2's LVIS reader subtracts 1, whatever ids the file has.
            ids = {index + 1: index for index in range(len(metadata.thing_classes))}
        maps[name] = ids
    first = maps[names[0]]
    for name, ids in maps.items():
        if ids != first:
            raise ValueError(
                f"the lists of images need one numbering of categories in DATASETS.TRAIN, but "
                f"{names[0]!r} and {name!r} give theirs other ids: renumber one, or set "
                "LT_DET.IMAGE_LISTS.POLICY '' and LT_DET.COPY_PASTE.ENABLED False"
            )
    return first


class ListedRegions(list):
    """Regions of an image from a cache, with the lists of that image.

    Attributes:
        class_knowledge: ``(K,)`` uint8.
    """

    def __init__(self, regions: ImageRegions, class_knowledge: Any) -> None:
        super().__init__(regions)
        setattr(self, CLASS_KNOWLEDGE, class_knowledge)


class ListedRegionStore(Sequence[ImageRegions]):
    """Records of a region cache, each with the lists of its image."""

    def __init__(
        self, regions: Sequence[ImageRegions], dicts: Sequence[dict], mapper: ListedMapper
    ) -> None:
        """Join both.

        Args:
            regions: of a cache; record ``e * len(dicts) + i`` belongs to image i.
            dicts: records of the training set.
            mapper: reads the lists; its own mapper is not called.
        """
        self._regions, self._dicts = regions, dicts
        self._mapper = mapper.without_images()

    def __len__(self) -> int:
        return len(self._regions)

    def __getitem__(self, index: Any) -> Any:
        record = self._dicts[index % len(self._dicts)]
        return ListedRegions(self._regions[index], self._mapper(record)[CLASS_KNOWLEDGE])
