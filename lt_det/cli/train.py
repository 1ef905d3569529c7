"""``lt-det train``: train a config, or several stages in a row, with Detectron2's flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from lt_det.cli.user_errors import user_errors
from lt_det.engine.run import run_config
from lt_det.engine.stages import run_stages
from lt_det.engine.startup.launch import launch
from lt_det.engine.startup.setup import argument_parser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; None parses that of the process."""
    return argument_parser(prog="lt-det train").parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or evaluate, in as many processes as the command line asks for."""
    launch(run, parse_arguments(arguments))


def run(args: argparse.Namespace) -> Any:
    """Run the stages of the command line, or its one config, in one process."""
    with user_errors():
        return run_stages(args, run_config) if args.stages else run_config(args)
