"""Build the mapper of LT_DET.COPY_PASTE from a config and its training set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lt_det.config_errors import naming_keys
from lt_det.engine.loading.image_lists import id_map_of, lists_are_absent
from lt_det.tasks import build_task
from lt_det.tasks.copy_paste_mapper import CopyPaste, CopyPasteMapper
from lt_det.tasks.listed_mapper import ListedMapper
from lt_det.tasks.named_image_mapper import NamedImageMapper

logger = logging.getLogger(__name__)

_NAMES = ("threshold", "max_objects", "scale", "cache_mib")
# Records that are looked at for masks before the training, over all of the data set.
_LOOKED_AT = 1000


def build_copy_paste_mapper(
    cfg: Any, dicts: Sequence[dict], mapper: Callable[[Any], Any] | None
) -> Callable[[Any], Any] | None:
    """Return ``mapper``, with LT_DET.COPY_PASTE.ENABLED one that pastes objects of ``dicts``.

    Args:
        cfg: config.
        dicts: records of the training set.
        mapper: given by the caller; None is Detectron2's.

    Raises:
        ValueError: names the keys that do not go together, or what the data lacks.
    """
    node = cfg.LT_DET.COPY_PASTE
    own = mapper.mapper if isinstance(mapper, ListedMapper) else mapper
    if not node.ENABLED or isinstance(own, CopyPasteMapper):
        return mapper
    if build_task(cfg).one_class_an_image:
        raise ValueError(
            "LT_DET.COPY_PASTE.ENABLED pastes objects by their masks, which images to classify "
            "have not: set it False"
        )
    if own is not None:
        raise ValueError(
            f"LT_DET.COPY_PASTE.ENABLED pastes before Detectron2's mapper, but the loader has "
            f"another one, {type(own).__name__}: derive it from lt_det.tasks.copy_paste_mapper."
            "CopyPasteMapper, or set ENABLED False"
        )
    if cfg.LT_DET.REGION_CACHE.ENABLED and cfg.LT_DET.IMAGE_LISTS.POLICY:
        raise ValueError(
            "LT_DET.REGION_CACHE does not keep which classes LT_DET.COPY_PASTE added to the lists "
            "of LT_DET.IMAGE_LISTS: turn one of the three off"
        )
    _check_have_masks(dicts)
    ids = id_map_of(tuple(cfg.DATASETS.TRAIN))
    with naming_keys(**{name: f"LT_DET.COPY_PASTE.{name.upper()}" for name in _NAMES}):
        copy_paste = CopyPaste(
            dicts,
            **{name: node[name.upper()] for name in _NAMES},
            category_ids=None if ids is None else {index: i for i, index in ids.items()},
            exhaustive=lists_are_absent(dicts),
            image_format=cfg.INPUT.FORMAT,
        )
    classes = copy_paste.sources.classes
    logger.info("LT_DET.COPY_PASTE: objects of %d classes may be pasted", len(classes))
    return CopyPasteMapper(copy_paste=copy_paste, **NamedImageMapper.from_config(cfg, True))


def _check_have_masks(dicts: Sequence[dict]) -> None:
    rows = np.unique(np.linspace(0, len(dicts) - 1, min(len(dicts), _LOOKED_AT)).astype(int))
    for row in rows.tolist():
        record = dicts[row]
        objects = [one for one in record.get("annotations", ()) if not one.get("iscrowd", 0)]
        lacking = sum(not one.get("segmentation") for one in objects)
        if lacking:
            raise ValueError(
                f"LT_DET.COPY_PASTE.ENABLED pastes objects by their masks, but {lacking} of "
                f"{len(objects)} objects of image {record.get('image_id')} in DATASETS.TRAIN have "
                "none ('segmentation'): draw them, or set it False"
            )
