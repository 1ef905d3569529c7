"""Data set dicts in one memory-mapped file, read one at a time.

A list of dicts of LVIS v1 train takes gigabytes, and every process that holds it its own. Here
all processes of a machine share the pages of one file; a record is unpickled when it is asked for.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, overload

import numpy as np

from lt_det.storage.atomic_write import atomic_path
from lt_det.storage.regular_file import open_regular

_MAGIC = b"ltdetrec"
# At the end of the file: first byte of the index, of the header, crc32 of both, magic.
_TRAILER = struct.Struct("<QQI8s")
# All that records hold besides plain types; a pickle could name any function otherwise.
_ALLOWED = {("detectron2.structures.boxes", "BoxMode")}


class StoredRecords(Sequence[dict]):
    """Read-only list of data set dicts, each unpickled at its access.

    Every access makes a new dict: changing one changes nothing here. A copy sent to another
    process opens the file there instead of carrying the records.
    """

    def __init__(self, blocks: Sequence[_Block], rows: np.ndarray | None = None) -> None:
        """Hold records of several blocks.

        Args:
            blocks: files or buffers.
            rows: ``(N,)`` int64 numbers of records, counted through all blocks; None for all.
        """
        self._blocks = tuple(blocks)
        self._ends = np.cumsum([len(block) for block in self._blocks])
        self._rows = np.arange(self._ends[-1]) if rows is None else rows

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StoredRecords:
        """Map a file of :func:`write_records`.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is broken or something else, a link, or another user's.
        """
        return cls([_Block.open(os.fspath(path))])

    @classmethod
    def packed(cls, records: Sequence[Mapping[str, Any]], about: Any = None) -> StoredRecords:
        """Return records in a buffer in memory: a fifth of what the dicts take."""
        buffer = io.BytesIO()
        _write(buffer, records, about)
        return cls([_Block(buffer.getvalue())])

    @classmethod
    def joined(cls, parts: Sequence[StoredRecords]) -> StoredRecords:
        """Return the records of several, one after another."""
        starts = np.cumsum([0] + [int(part._ends[-1]) for part in parts])
        return cls(
            [block for part in parts for block in part._blocks],
            np.concatenate([part._rows + start for part, start in zip(parts, starts)]),
        )

    @property
    def about(self) -> Any:
        """Plain values that were written beside the records of the first block."""
        return self._blocks[0].about

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict: ...
    @overload
    def __getitem__(self, index: slice) -> StoredRecords: ...

    def __getitem__(self, index: int | slice) -> dict | StoredRecords:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = int(self._rows[index])
        block = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[block]) - len(self._blocks[block])
        return self._blocks[block].record(row - start)

    def __mul__(self, times: int) -> StoredRecords:
        """Return the records several times, as a list does."""
        return self.take(np.tile(np.arange(len(self)), times))

    def take(self, indices: np.ndarray) -> StoredRecords:
        """Return the records at ``indices``, an int array, in that order; copies none."""
        return StoredRecords(self._blocks, self._rows[indices])

    def instances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what samplers need to know of M annotations, without reading a record.

        Returns:
            ``(M,)`` int64 index of the record, ``(M,)`` int64 contiguous class id and ``(M,)``
            bool crowd, in the order of the records and of their annotations.
        """
        counts = np.concatenate(
            [np.diff(block.arrays["ends"], prepend=0) for block in self._blocks]
        )
        classes = np.concatenate([block.arrays["classes"] for block in self._blocks])
        crowds = np.concatenate([block.arrays["crowds"] for block in self._blocks])
        first = np.cumsum(counts) - counts
        counts, first = counts[self._rows], first[self._rows]
        ends = np.cumsum(counts)
        place = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
        index = np.repeat(np.arange(len(self)), counts)
        return index, classes[place].astype(np.int64), crowds[place].astype(bool)

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return widths and heights ``(N,)`` int64 of the images in pixels; 0 where not said."""
        widths, heights = (
            np.concatenate([block.arrays[name] for block in self._blocks])[self._rows]
            for name in ("widths", "heights")
        )
        return widths.astype(np.int64), heights.astype(np.int64)


def write_records(
    path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]], *, about: Any = None
) -> None:
    """Write a file for :meth:`StoredRecords.open`, whole or not at all.

    Args:
        path: its folder is made.
        records: Detectron2's data set dicts, each with ``annotations``.
        about: plain types, kept beside them.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the first record would not come back as it was.
    """
    try:
        with atomic_path(path) as part:
            with open(part, "wb") as file:
                _write(file, records, about)
            written = StoredRecords.open(part)
            if len(records) and written[0] != records[0]:
                raise ValueError("a record does not come back as it was")
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise ValueError(f"the records cannot be stored: {error}") from error


class _Block:
    """One file, or a buffer of the same content."""

    def __init__(self, data: Any, path: str | None = None) -> None:
        self.path, self.data = path, data
        size = len(data)
        if size < _TRAILER.size or data[:8] != _MAGIC or data[size - 8 : size] != _MAGIC:
            raise ValueError(f"{path} is no file of records, or only a part of one")
        index, header, checksum, _ = _TRAILER.unpack(data[size - _TRAILER.size : size])
        if not 8 <= index <= header <= size - _TRAILER.size:
            raise ValueError(f"{path} is broken: its parts lie outside of it")
        if zlib.crc32(data[index : size - _TRAILER.size]) != checksum:
            raise ValueError(f"{path} is broken: its checksum is wrong")
        layout, self.about = _load(data[header : size - _TRAILER.size])
        self.arrays = {
            name: np.frombuffer(data, dtype=dtype, count=count, offset=offset)
            for name, (dtype, count, offset) in layout.items()
        }

    @classmethod
    def open(cls, path: str) -> _Block:
        with open_regular(path, own=True) as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError(f"{path} is empty")
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)

    def __reduce__(self) -> tuple:
        return (_Block, (self.data,)) if self.path is None else (_Block.open, (self.path,))

    def __len__(self) -> int:
        return len(self.arrays["starts"]) - 1

    def record(self, row: int) -> dict:
        start, end = self.arrays["starts"][row : row + 2]
        content = self.data[int(start) : int(end)]
        if zlib.crc32(content) != self.arrays["checksums"][row]:
            raise RuntimeError(f"record {row} of {self.path} is broken; delete the file")
        return _load(content)


def _write(file: BinaryIO, records: Sequence[Mapping[str, Any]], about: Any) -> None:
    starts, checksums, ends = [file.write(_MAGIC)], [], []
    classes: list[int] = []
    crowds: list[bool] = []
    sizes: list[tuple[int, int]] = []
    for record in records:
        content = pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
        starts.append(starts[-1] + file.write(content))
        checksums.append(zlib.crc32(content))
        for annotation in record["annotations"]:
            classes.append(annotation["category_id"])
            crowds.append(bool(annotation.get("iscrowd", 0)))
        ends.append(len(classes))
        sizes.append((record.get("width", 0), record.get("height", 0)))
    arrays: dict[str, np.ndarray] = {
        "starts": np.array(starts, dtype=np.int64),
        "checksums": np.array(checksums, dtype=np.uint32),
        "ends": np.array(ends, dtype=np.int64),
        "classes": np.array(classes, dtype=np.int32),
        "crowds": np.array(crowds, dtype=np.uint8),
        "widths": np.array([width for width, _ in sizes], dtype=np.int32),
        "heights": np.array([height for _, height in sizes], dtype=np.int32),
    }
    layout, index = {}, bytearray(-starts[-1] % 8)
    for name, array in arrays.items():
        layout[name] = (array.dtype.str, len(array), starts[-1] + len(index))
        index += array.tobytes()
        index += bytes(-len(index) % 8)
    header = starts[-1] + len(index)
    index += pickle.dumps((layout, about), protocol=pickle.HIGHEST_PROTOCOL)
    file.write(index + _TRAILER.pack(starts[-1], header, zlib.crc32(index), _MAGIC))


class _PlainUnpickler(pickle.Unpickler):
    """Makes plain types and BoxMode, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"records do not hold {module}.{name}")
        return super().find_class(module, name)


def _load(content: bytes) -> Any:
    return _PlainUnpickler(io.BytesIO(content)).load()
