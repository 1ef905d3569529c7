"""Run-length codes of many masks in one buffer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

# pycocotools 2.0.11 puts the number of masks into a uint8 on the way, which NumPy 2 refuses.
_MASKS_AT_ONCE = 255


class EncodedMasks(Sequence[Mapping[str, Any]]):
    """N compressed run-length codes. An item is ``{"size": [h, w], "counts": bytes}``.

    An item costs 24 bytes and its code; a dictionary 400 more. A selection of rows shares the
    codes with the whole.

    Attributes:
        codes: ``(B,)`` uint8, codes one after another.
        starts: ``(N,)`` int64, first byte of each.
        lengths: ``(N,)`` int32, bytes of each.
        sizes: ``(N, 2)`` int32, height and width in px.
    """

    def __init__(
        self, codes: np.ndarray, *, lengths: np.ndarray, sizes: np.ndarray, starts: np.ndarray
    ) -> None:
        self.codes, self.starts, self.lengths, self.sizes = codes, starts, lengths, sizes

    @classmethod
    def joined(cls, codes: np.ndarray, *, lengths: np.ndarray, sizes: np.ndarray) -> EncodedMasks:
        """Return the masks whose codes lie in ``codes`` without gaps, in order."""
        ends = np.cumsum(lengths, dtype=np.int64)
        return cls(codes, starts=ends - lengths, lengths=lengths, sizes=sizes)

    @classmethod
    def from_dicts(cls, masks: Sequence[Mapping[str, Any]]) -> EncodedMasks:
        """Return dictionaries with "size" and compressed "counts", bytes or text, as arrays."""
        counts = [_as_bytes(mask["counts"]) for mask in masks]
        return cls.joined(
            np.frombuffer(b"".join(counts), dtype=np.uint8),
            lengths=np.array([len(code) for code in counts], dtype=np.int32),
            sizes=np.array([mask["size"] for mask in masks], dtype=np.int32).reshape(-1, 2),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: Any) -> Any:
        start = int(self.starts[row])
        return {
            "size": self.sizes[row].tolist(),
            "counts": self.codes[start : start + int(self.lengths[row])].tobytes(),
        }

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return map(self.__getitem__, range(len(self)))

    def take(self, rows: np.ndarray) -> EncodedMasks:
        """Return the masks at ``rows``, an int array, in that order; no code is copied."""
        return EncodedMasks(
            self.codes,
            starts=self.starts[rows],
            lengths=self.lengths[rows],
            sizes=self.sizes[rows],
        )

    def boxes_and_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest ``(N, 4)`` XYWH boxes around the masks and ``(N,)`` areas, px."""
        boxes, areas = np.zeros((len(self), 4)), np.zeros(len(self))
        for start in range(0, len(self), _MASKS_AT_ONCE):
            part = slice(start, start + _MASKS_AT_ONCE)
            masks = [self[row] for row in range(len(self))[part]]
            boxes[part], areas[part] = mask_utils.toBbox(masks), mask_utils.area(masks)
        return boxes, areas


def _as_bytes(counts: bytes | str) -> bytes:
    return counts.encode() if isinstance(counts, str) else counts
