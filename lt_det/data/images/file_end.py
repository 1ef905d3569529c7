"""Look whether an image file ends as its format says; nothing is decoded."""

from __future__ import annotations

import os
from typing import IO, Any

from lt_det.storage.regular_file import open_regular

# Bytes at the end in which an end is looked for: cameras and phones append data of their own.
_TAIL = 64 * 2**10
_PNG_END = b"IEND\xaeB`\x82"
_START_OF_SCAN, _RESTARTS = 0xDA, range(0xD0, 0xD8)
_STRIPS = ((273, 279), (324, 325))  # TIFF tags: places and lengths, of strips and of tiles


def may_be_cut(path: str | os.PathLike[str], image: Any) -> bool:
    """Return whether the end of a file is not that of a whole image of its format.

    A whole image may be doubted, as one with much behind its end: decode what is. Formats without
    an end that is cheap to find are not doubted.

    Args:
        path: of the file.
        image: PIL's, opened and not loaded.

    Raises:
        OSError: if the file cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if image.format in ("JPEG", "MPO"):
            return not _has_jpeg_end(file, size)
        if image.format == "PNG":
            return _PNG_END not in _tail(file, size)
        if image.format == "GIF":
            return not _tail(file, size).rstrip(b"\0").endswith(b";")
        if image.format in ("BMP", "DIB"):
            file.seek(2)
            return size < int.from_bytes(file.read(4), "little")
        if image.format == "WEBP":
            file.seek(4)
            return size < int.from_bytes(file.read(4), "little") + 8
        return image.format == "TIFF" and size < _tiff_end(image)


def _tail(file: IO[bytes], size: int, start: int = 0) -> bytes:
    file.seek(max(size - _TAIL, start))
    return file.read()


def _has_jpeg_end(file: IO[bytes], size: int) -> bool:
    """Return whether an end follows the start of the scan: an EXIF preview before it has one."""
    file.seek(2)
    while len(word := file.read(2)) == 2 and word[0] == 0xFF:
        if word[1] == _START_OF_SCAN:
            # In a scan an FF is followed by 0 or a marker.
            return b"\xff\xd9" in _tail(file, size, file.tell())
        if word[1] == 0xFF:
            file.seek(-1, os.SEEK_CUR)  # padding
        elif word[1] != 1 and word[1] not in _RESTARTS:
            length = int.from_bytes(file.read(2), "big")
            file.seek(max(length - 2, 0), os.SEEK_CUR)
    return False


def _tiff_end(image: Any) -> int:
    """Return the byte behind the last strip or tile, 0 where tags do not say."""
    tags = getattr(image, "tag_v2", {})
    ends = [
        int(place) + int(length)
        for at, of in _STRIPS
        for place, length in zip(tags.get(at, ()), tags.get(of, ()))
    ]
    return max(ends, default=0)
