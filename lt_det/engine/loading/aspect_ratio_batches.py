"""Group wide and tall images into batches by the sizes in their records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from lt_det.data.records.stored_records import StoredRecords

logger = logging.getLogger(__name__)


class AspectRatioBatches(Sampler[list[int]]):
    """Groups an endless stream of samples into batches of wide or of tall images.

    The batches are those of Detectron2's ``AspectRatioGroupedDataset``. It groups loaded samples;
    here it is their numbers, so that a resumed run can go through those of before in no time and
    has the same images left over in its groups.

    Attributes:
        start: batches that are left out at the beginning.
    """

    def __init__(self, codes: Iterable[int], *, is_wide: np.ndarray, batch_size: int) -> None:
        """Group numbers.

        Args:
            codes: endless; each is a multiple of N plus the index of a record.
            is_wide: ``(N,)`` bool, of each record.
            batch_size: samples of a batch.
        """
        self._codes, self._is_wide, self._batch_size = codes, is_wide, batch_size
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        number = 0
        groups: dict[bool, list[int]] = {False: [], True: []}
        for code in self._codes:
            group = groups[bool(self._is_wide[code % len(self._is_wide)])]
            group.append(code)
            if len(group) == self._batch_size:
                if number >= self.start:
                    yield group.copy()
                group.clear()
                number += 1


def wide_images(dicts: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return ``(N,)`` bool: whether an image is wider than high; False where a record does not say.

    Args:
        dicts: N Detectron2's data set dicts.
    """
    if isinstance(dicts, StoredRecords):
        widths, heights = dicts.sizes()
    else:
        sizes = [(record.get("width", 0), record.get("height", 0)) for record in dicts]
        widths, heights = np.array(sizes, dtype=np.int64).reshape(-1, 2).T
    unknown = int(((widths <= 0) | (heights <= 0)).sum())
    if unknown:
        logger.warning(
            "DATALOADER.ASPECT_RATIO_GROUPING: %d of %d training records have no width and "
            "height, and are batched as tall images. Add both, or set it False",
            unknown,
            len(dicts),
        )
    return (widths > heights) & (heights > 0)
