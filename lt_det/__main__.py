"""``python -m lt_det``, the same as ``lt-det``."""

from __future__ import annotations

import sys

from lt_det.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
