"""Check run-length encoded masks without decoding them.

pycocotools trusts its input: runs that do not add up to the image make it write beyond its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import Doubt

#: Most pixels of an image: pycocotools counts them in 32 bits.
MOST_PIXELS = 2**31 - 1

# Bytes of codes looked at together; the arrays on the way take some 50 times as much.
_BYTES_AT_ONCE = 2**21
# Characters of the longest number: 7 of 5 bits hold any 32.
_LONGEST = 7


def is_mask_size(size: Any) -> bool:
    """Return whether ``size`` is ``[height, width]``, whole numbers of px that make an image."""
    return (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
        and size[0] * size[1] <= MOST_PIXELS
    )


def code_of(counts: Any) -> bytes | None:
    """Return the bytes of a compressed code, None of what is none."""
    if isinstance(counts, str):
        return counts.encode() if counts.isascii() else b"\0"  # no code has that byte
    return counts if isinstance(counts, bytes) else None


def wrong_run_lengths(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[Any, Any]]
) -> list[Doubt]:
    """Return the run-length encoded masks that are not those of their image.

    Args:
        annotations: of a json; masks of another form are left out.
        sizes: image id -> width and height as the json has them; others than numbers play no role.
    """
    masks: list[Any] = [one.get("segmentation") for one in annotations]
    rows = [r for r, mask in enumerate(masks) if isinstance(mask, dict) and mask_has_runs(mask)]
    other, broken, coded = [], [], []
    for row in rows:
        mask = masks[row]
        width, height = sizes.get(annotations[row].get("image_id"), (None, None))
        known = isinstance(width, (int, float)) and isinstance(height, (int, float))
        if known and (height, width) != tuple(mask["size"]):
            other.append(row)
        if isinstance(mask["counts"], list):
            if sum_of_runs(mask["counts"]) != mask["size"][0] * mask["size"][1]:
                broken.append(row)
        else:
            coded.append(row)
    sums = sums_of_texts([code_of(masks[row]["counts"]) or b"" for row in coded])
    pixels = [masks[row]["size"][0] * masks[row]["size"][1] for row in coded]
    broken += np.asarray(coded, dtype=np.int64)[sums != np.array(pixels, dtype=np.int64)].tolist()
    return [
        Doubt(kind, what, np.array(sorted(found)), advice, show="segmentation", is_error=True)
        for kind, found, what, advice in (
            (
                "rle-size",
                other,
                "is run-length encoded, and its 'size' is not [height, width] of the image",
                "width and height swapped, or another image's? Encode the masks again",
            ),
            (
                "rle-counts",
                broken,
                "is run-length encoded, and its 'counts' do not add up to the image",
                "encode the masks again",
            ),
        )
        if found
    ]


def mask_has_runs(mask: Mapping[str, Any]) -> bool:
    """Return whether a mask has a ``size`` and ``counts`` of the right types, not all empty."""
    counts = mask.get("counts")
    return (
        is_mask_size(mask.get("size")) and isinstance(counts, (list, str, bytes)) and bool(counts)
    )


def sum_of_runs(counts: Any) -> int:
    """Return the sum of a list of runs, -1 if one of them is no whole number of at least 0."""
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return -1
    return sum(counts)


def sums_of_codes(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the sum of the runs of each of N compressed codes, -1 for one that is broken.

    Format: 5 bits a character, runs as differences from the one before the last; ``rleToString``
    in the C code of the COCO API.

    Args:
        codes: ``(B,)`` uint8, codes one after another.
        lengths: ``(N,)`` bytes of each.

    Returns:
        ``(N,)`` int64.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    sums = np.full(len(lengths), -1, dtype=np.int64)
    first = 0
    while first < len(lengths):
        begin = int(ends[first] - lengths[first])
        last = max(int(np.searchsorted(ends, begin + _BYTES_AT_ONCE, side="right")), first + 1)
        part = slice(first, last)
        sums[part] = _sums(codes[begin : int(ends[last - 1])], np.asarray(lengths[part]))
        first = last
    return sums


def sums_of_texts(codes: Sequence[bytes]) -> np.ndarray:
    """Return :func:`sums_of_codes` of separate codes."""
    joined = np.frombuffer(b"".join(codes), dtype=np.uint8)
    return sums_of_codes(joined, np.array([len(code) for code in codes], dtype=np.int64))


def _sums(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    sums = np.full(len(lengths), -1, dtype=np.int64)
    if not len(codes):
        return sums
    bits = codes.astype(np.int64) - 48
    mask_of_byte = np.repeat(np.arange(len(lengths)), lengths)
    ends_number = (bits & 32) == 0
    broken = lengths == 0
    broken[mask_of_byte[(bits < 0) | (bits > 63)]] = True
    mask_ends = np.cumsum(lengths)[lengths > 0] - 1
    broken[mask_of_byte[mask_ends[~ends_number[mask_ends]]]] = True
    # A number ends where it says so, and where its mask does.
    ends_number[mask_ends] = True
    ends = np.flatnonzero(ends_number)
    starts = np.append(0, ends[:-1] + 1)
    mask_of_number = mask_of_byte[ends]
    broken[mask_of_number[ends - starts >= _LONGEST]] = True
    place = np.minimum(np.arange(len(codes)) - np.repeat(starts, ends - starts + 1), _LONGEST)
    numbers = np.add.reduceat((bits & 31) << (5 * place), starts)
    negative = (bits[ends] & 16) != 0
    numbers -= np.where(negative, np.int64(1) << (5 * (place[ends] + 1)), 0)
    # From the fourth run on a number is the difference from the run two before it: within a mask
    # the first run stands alone, and the others are two chains of running sums.
    numbers_of_mask = np.bincount(mask_of_number, minlength=len(lengths))
    first_of_mask = np.cumsum(numbers_of_mask) - numbers_of_mask
    index = np.arange(len(numbers)) - first_of_mask[mask_of_number]
    chain = 3 * mask_of_number + np.where(index == 0, 0, 2 - index % 2)
    order = np.argsort(chain, kind="stable")
    chain, runs = chain[order], np.cumsum(numbers[order])
    begins = np.flatnonzero(np.append(True, chain[1:] != chain[:-1]))
    before = np.append(0, runs)[begins]
    runs -= np.repeat(before, np.diff(np.append(begins, len(runs))))
    broken[chain[runs < 0] // 3] = True
    totals = np.zeros(len(lengths), dtype=np.int64)
    np.add.at(totals, chain // 3, runs)
    return np.where(broken, -1, totals)
