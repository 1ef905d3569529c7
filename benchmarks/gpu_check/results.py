"""What a part found: checks and timings, written after each of them, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timing import Row

#: States of a part. "running" in a file whose process is gone: it was killed.
RUNNING, DONE, BROKEN, LIMIT, LEFT_OUT = "running", "done", "broken", "time limit", "left out"


class NotHereError(Exception):
    """A check cannot be made on this machine; its text says why."""


class Results:
    """The file of a part."""

    def __init__(self, path: Path, part: str) -> None:
        """Begin the file."""
        self._path, self._start = path, time.monotonic()
        self.content: dict[str, Any] = {
            "part": part,
            "state": RUNNING,
            "seconds": 0.0,
            "machine": {},
            "checks": [],
            "rows": [],
            "notes": [],
        }
        self.write()

    def check(self, name: str, function: Callable[[], str]) -> None:
        """Call a function that returns what it saw, and raises if it is wrong."""
        start = time.monotonic()
        ok: bool | None = True
        try:
            detail = function()
        except NotHereError as error:
            ok, detail = None, str(error)
        except (Exception, SystemExit) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            ok, detail = False, f"{type(error).__name__}: {error} ({where})"
        seconds = round(time.monotonic() - start, 3)
        self.content["checks"].append(
            {"name": name, "ok": ok, "detail": " ".join(str(detail).split())[:400]}
            | {"seconds": seconds}
        )
        said = {True: "ok", False: "WRONG", None: "not here"}[ok]
        print(f"  {said}: {name}: {self.content['checks'][-1]['detail']}", flush=True)
        self.write()

    def row(self, row: Row) -> None:
        """Add a comparison with Detectron2."""
        self.content["rows"].append({**dataclasses.asdict(row), "ratio": row.ratio})
        print(
            f"  {row.name}: {row.baseline_name} {row.baseline:.4g}, lt_det {row.ours:.4g} "
            f"{row.unit}, {row.ratio:.3g} times",
            flush=True,
        )
        self.write()

    def note(self, text: str) -> None:
        """Add a sentence."""
        self.content["notes"].append(text)
        print(f"  {text}", flush=True)
        self.write()

    def end(self, state: str) -> None:
        """Say how the part ended."""
        self.content["state"] = state
        self.write()

    def write(self) -> None:
        """Write the file."""
        self.content["seconds"] = round(time.monotonic() - self._start, 1)
        write_json(self._path, self.content)


def write_json(path: Path, content: Any) -> None:
    """Write a json file, whole or not at all; nothing of lt_det is needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def is_wrong(content: dict[str, Any]) -> bool:
    """Return whether a part has a wrong check, or broke."""
    return content["state"] in (BROKEN, RUNNING) or any(c["ok"] is False for c in content["checks"])


def is_complete(content: dict[str, Any]) -> bool:
    """Return whether a part was not cut off or left out, and found something."""
    found = content["checks"] or content["rows"]
    return content["state"] == DONE and bool(found)
