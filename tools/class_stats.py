#!/usr/bin/env python
"""The command ``lt-det class-stats``; see --help."""

from __future__ import annotations

import sys

from lt_det.cli.class_stats import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    from lt_det.cli.commands import main as call_command

    sys.exit(call_command(["class-stats", *sys.argv[1:]]))
