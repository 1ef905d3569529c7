"""Run one part: python -m gpu_check.part NAME FILE SECONDS."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from pathlib import Path

#: Of this process: what it has spent, imports and all, is of its time. The interpreter's start too.
START = time.monotonic() - 2.0

# Behind what is installed: the machine's own packages come first.
if os.environ.get("LT_DET_CARRY"):
    sys.path.append(os.environ["LT_DET_CARRY"])

from gpu_check.results import BROKEN, DONE, Results  # noqa: E402


def main() -> int:
    module, path, seconds = sys.argv[1:]
    name = module.rsplit(".", maxsplit=1)[-1]
    results = Results(Path(path), name)
    try:
        from timing import machine

        from gpu_check import device

        device.set_up()
        results.content["machine"] = machine()
        part = importlib.import_module(module)
        part.run(results, float(seconds) - (time.monotonic() - START))
    except BaseException as error:
        traceback.print_exc()
        results.note(f"{type(error).__name__}: {error}")
        results.end(BROKEN)
        return 1
    results.end(DONE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
