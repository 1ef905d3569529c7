"""Reading of a json that may be anything: truncated, foreign, or nearly one of COCO's."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from lt_det.data.annotations.file_kinds import foreign_kind, wide_encoding
from lt_det.data.annotations.naming import shortened
from lt_det.data.annotations.repeated_lists import RepeatedListError, hooks
from lt_det.data.annotations.schema import LISTS, first_entries, wrong_fields
from lt_det.data.inspection.findings import Finding
from lt_det.storage.regular_file import open_regular

# Keys at the top of other formats -> their name.
_FOREIGN_KEYS = {
    "shapes": "LabelMe's format, one file an image",
    "_via_settings": "a project of VIA",
    "_via_img_metadata": "a project of VIA",
    "imagePath": "LabelMe's format, one file an image",
    "database": "ActivityNet's format",
    "segmentations": "another format",
}
# Keys in the records of a list -> their name.
_FOREIGN_RECORDS = {
    "score": "detections, the results of a model, not ground truth",
    "annotations": "CreateML's format or Label Studio's own",
    "data": "Label Studio's own format",
    "Label": "Labelbox's format",
}


@dataclass
class JsonFile:
    """A json as far as it can be looked into.

    Attributes:
        path: of the file.
        content: ``images``, ``annotations`` and ``categories`` are lists of dicts whose ids can
            be keys; None if there is nothing to look into.
        findings: what is wrong with the rest.
    """

    path: str
    content: dict[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, what: str, advice: str, **more: Any) -> None:
        """Append a finding about the file; an error unless ``harm`` says otherwise."""
        harm = more.pop("harm", "error")
        self.findings.append(Finding(harm, kind, self.path, what, advice, **more))

    def has_error(self) -> bool:
        """Return whether there is nothing to look into."""
        return any(one.harm == "error" and not one.mendable for one in self.findings)


def read_json_file(path: str | os.PathLike[str]) -> JsonFile:
    """Return what can be read of a json; raises nothing that is the file's fault."""
    file = JsonFile(os.fspath(path))
    try:
        with open_regular(path) as stream:
            data = stream.read()
    except (OSError, ValueError) as error:
        file.add("no-file", str(error), "correct the path")
        return file
    raw = _parsed(file, data)
    if file.has_error():
        return file
    if not isinstance(raw, dict):
        file.add(
            "foreign-json",
            f"the json holds {_foreign_list(raw)}",
            "export in COCO's format: an object with images, annotations and categories",
        )
        return file
    missing = [key for key in LISTS if key not in raw]
    if missing:
        names = {name for key, name in _FOREIGN_KEYS.items() if key in raw}
        if len(missing) == len(LISTS):
            known = " or ".join(sorted(names)) or f"keys {list(raw)[:5]}"
            advice = "export in COCO's format"
        else:
            known = f"no {' and no '.join(missing)}"
            advice = (
                "a file without annotations (a test split) can neither be trained on nor evaluated"
                if missing == ["annotations"]
                else "export it again, with all three"
            )
        file.add("foreign-json", f"the json has {known}, it must have images, annotations and "
                 "categories", advice)  # fmt: skip
    file.content = {**raw, **{key: _records(file, raw.get(key, []), key) for key in LISTS}}
    if "images" in raw and not file.content["images"]:
        file.add("no-images", "'images' is empty", "export it again with images")
    if len(missing) == len(LISTS):
        file.content = None
    return file


def _parsed(file: JsonFile, data: bytes) -> Any:
    """Return the content, None after a finding."""
    if not data.strip():
        file.add("empty-json", "the file is empty", "download or write it again")
        return None
    if data.startswith(codecs.BOM_UTF8):
        file.add(
            "bom",
            "the file begins with a byte order mark, as Windows tools write it",
            "lt_det reads over it, other tools stop",
            harm="note",
            mendable=True,
        )
    wide = wide_encoding(data)
    try:
        text = data.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if not _add_foreign(file, data):
            file.add("encoding", f"the file is no utf-8 text: {error}", "write it as utf-8")
        return None
    if wide:
        name = "-".join(wide.split("-")[:2])
        file.add("encoding", f"the file is {name}", "write it as utf-8", mendable=True)
    try:
        keywords, check = hooks()
        content = json.loads(text, **keywords)
        check()
        return content
    except RepeatedListError as error:
        file.add("repeated-list", str(error), "else all objects of the others are lost")
    except RecursionError:
        file.add("foreign-json", "the json is nested too deeply", "export in COCO's format")
    except ValueError as error:
        if _add_foreign(file, text.encode()):
            return None
        place = getattr(error, "pos", 0)
        cut = place >= len(text.rstrip()) or not text.rstrip().endswith(("}", "]"))
        file.add(
            "cut-json" if cut else "no-json",
            f"the file ends in the middle of the json ({len(data)} bytes)"
            if cut
            else f"the file is no json: {error}",
            "download or write it again",
        )
    return None


def _add_foreign(file: JsonFile, data: bytes) -> bool:
    """Add a finding if a file is of a known kind that is no json; return whether it is."""
    kind = foreign_kind(data)
    if kind is not None:
        what, advice = kind
        file.add("foreign-json", f"the file is {what}, no json", advice)
    return kind is not None


def _foreign_list(raw: Any) -> str:
    if not isinstance(raw, list):
        return f"a {type(raw).__name__}"
    first = raw[0] if raw else None
    if isinstance(first, dict):
        for key, name in _FOREIGN_RECORDS.items():
            if key in first:
                return f"a list of {name}"
    return "a list"


def _records(file: JsonFile, value: Any, key: str) -> list[dict[str, Any]]:
    """Return the entries that are dicts with usable ids; the others become a finding."""
    if not isinstance(value, list):
        file.add("no-list", f"'{key}' is a {type(value).__name__}, not a list", "export it again")
        return []
    good = [one for one in value if isinstance(one, dict) and _has_plain_ids(one)]
    if len(good) < len(value):
        odd = [i for i, one in enumerate(value) if not isinstance(one, dict)
               or not _has_plain_ids(one)]  # fmt: skip
        file.add(
            "no-record",
            f"not an object with ids that are numbers or texts in '{key}'",
            "correct or remove them",
            count=len(odd),
            total=len(value),
            of="entries",
            first=tuple(f"#{i}: {shortened(value[i])}" for i in odd[:5]),
        )
    return _typed(file, good, key)


def _typed(file: JsonFile, entries: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return the entries without fields of a wrong type, each kind of which becomes a finding.

    Ids are left: numbers written as text, say, can be mended.
    """
    for wrong in wrong_fields(entries, key):
        if wrong.show == "id" or (wrong.show == "name" and not _has_texts(entries, wrong.rows)):
            continue  # looked at later, with what can be done
        first = first_entries(entries, wrong.rows, of=key, show=wrong.show)
        file.add(wrong.kind.replace("_", "-"), f"{wrong.show!r} {wrong.what}", wrong.advice,
                 count=len(wrong.rows), total=len(entries), of=key, first=(first,))  # fmt: skip
        for row in wrong.rows.tolist():
            entries[row] = {k: v for k, v in entries[row].items() if k != wrong.show}
    return entries


def _has_texts(entries: list[dict[str, Any]], rows: Any) -> bool:
    return any(isinstance(entries[row].get("name"), str) for row in rows)


def _has_plain_ids(record: dict[str, Any]) -> bool:
    return all(
        isinstance(record.get(key), Hashable) for key in ("id", "image_id", "category_id", "name")
    )
