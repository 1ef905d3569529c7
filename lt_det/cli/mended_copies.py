"""Mended copies of jsons that ``lt-det check-data --fix`` writes, and where they go."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lt_det.cli.user_errors import UserError
from lt_det.data.inspection.data_sets import Inspection
from lt_det.storage.atomic_write import atomic_file


def targets_of(out: Path | None, files: Sequence[str]) -> list[Path]:
    """Return where the mended copy of each file goes.

    Raises:
        UserError: if two would be one, or one is a file that is read.
    """
    if out is None:
        return []
    if len(files) == 1:
        targets = [out]
    else:
        if out.suffix == ".json":
            raise UserError(
                f"--fix {out} must be a folder where there are {len(files)} jsons; name a folder, "
                "or mend one json at a time"
            )
        targets = [out / Path(file).name for file in files]
    if len(set(targets)) < len(targets):
        raise UserError(f"--fix {out}: two of the jsons have the same name; mend one at a time")
    for target in targets:
        if any(os.path.realpath(target) == os.path.realpath(file) for file in files):
            raise UserError(f"--fix {target} is a file that is read; name another")
    return targets


def write_mended(inspection: Inspection, targets: Sequence[Path]) -> list[Path]:
    """Write the copies, each whole or not at all; return their paths."""
    written = []
    for file, target in zip(inspection.files, targets):
        if file.mended is None:
            print(f"{target} is not written: {file.json.path} cannot be read", file=sys.stderr)
            continue
        with atomic_file(target) as stream:
            json.dump(file.mended, stream)
        written.append(target)
    return written
