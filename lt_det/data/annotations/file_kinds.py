"""Kinds of files that are given in the place of a json, told by their first bytes."""

from __future__ import annotations

import codecs
import json
import re

_UNPACK = "unpack it, and name the json inside"
_EXPORT = "export in COCO's format, one json a split"
# First bytes -> what begins with them, what to do.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x89PNG", "an image (png)", "name the json of the annotations"),
    (b"\xff\xd8\xff", "an image (jpg)", "name the json of the annotations"),
    (b"PAR1", "a parquet table", _EXPORT),
    (b"SQLite format 3", "an SQLite data base", _EXPORT),
    (b"%PDF", "a pdf", _EXPORT),
    (b"\x80\x04", "a pickle of Python", _EXPORT),
    (
        b"version https://git-lfs", "a pointer of Git LFS, not the file itself",
        "fetch it with git lfs pull",
    ),
)  # fmt: skip
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_YOLO = re.compile(rf"\d+([ \t]+{_NUMBER}){{4,}}\s*")


def foreign_kind(data: bytes) -> tuple[str, str] | None:
    """Return what a file is that is no json, and what to do; None where nothing is recognised.

    Args:
        data: of the file, all or the first kilobytes.
    """
    for beginning, what, advice in _BEGINNINGS:
        if data.startswith(beginning):
            return what, advice
    if data[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    try:
        text = data.decode("utf-8-sig", errors="ignore").replace("\r\n", "\n").lstrip()
    except ValueError:
        return None
    lines = [line for line in text.split("\n") if line.strip()]
    # The last may be cut.
    lines = lines[:-1] if len(lines) > 1 else lines
    if not lines:
        return None
    first = lines[0]
    if first.startswith("<"):
        return "XML (Pascal VOC?) or HTML (an error page?)", f"{_EXPORT}, or download it again"
    if all(_YOLO.fullmatch(line) for line in lines[:20]):
        return "a label file of YOLO, lines of 'class x y width height'", _EXPORT
    if first[0] == "{" and len(lines) > 1 and all(map(_is_json, lines[:3])):
        return "a jsonl, one json a line", _EXPORT
    if first[0] in "[{":
        if re.match(r"[\[{\s]*'\w+'\s*:", text):
            return "a printed Python object, in single quotes", "write it with json.dump"
        return None
    if re.match(r"(names|nc|train|val|path)\s*:", first) or first.startswith(("---", "#", "%YAML")):
        return "a yaml", "its labels are in other files; " + _EXPORT
    for mark, name in (("\t", "tsv"), (",", "csv"), (";", "csv")):
        columns = {line.count(mark) for line in lines[:20]}
        if len(columns) == 1 and columns != {0}:
            return f"a table ({name})", _EXPORT
    return None


def wide_encoding(data: bytes) -> str | None:
    """Return the name of the encoding if a text has two or four bytes a character, else None."""
    marks = (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (b"{\0\0\0", "utf-32-le"),
        (b"[\0\0\0", "utf-32-le"),
        (b"\0\0\0{", "utf-32-be"),
        (b"\0\0\0[", "utf-32-be"),
        (b"{\0", "utf-16-le"),
        (b"[\0", "utf-16-le"),
        (b"\0{", "utf-16-be"),
        (b"\0[", "utf-16-be"),
    )
    return next((name for mark, name in marks if data.startswith(mark)), None)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
