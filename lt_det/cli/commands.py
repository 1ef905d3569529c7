"""Table of the commands of ``lt-det``, and the function that calls them."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lt_det.cli.user_errors import DEBUG, UserError, user_errors
from lt_det.shown_text import for_log
from lt_det.version import __version__


@dataclass(frozen=True)
class Command:
    """A row of the table.

    Attributes:
        name: on the command line.
        summary: in ``lt-det --help``.
        module: has ``main(arguments)``, which gets the words after the name and returns None or
            an exit status. It is imported only when the command is called.
    """

    name: str
    summary: str
    module: str


COMMANDS = (
    Command(
        "check-data", "find what is wrong with a data set before training", "lt_det.cli.check_data"
    ),
    Command(
        "new-project", "write the configs of a training from your data", "lt_det.cli.new_project"
    ),
    Command("train", "train a config, or several stages in a row", "lt_det.cli.train"),
    Command("evaluate", "evaluate a checkpoint, or a json of detections", "lt_det.cli.evaluate"),
    Command("compare", "say whether two runs differ by more than luck", "lt_det.cli.compare"),
    Command("report", "write a page about evaluated runs", "lt_det.cli.report"),
    Command(
        "balance",
        "find the rare classes with a detector that is trained, in minutes",
        "lt_det.cli.balance",
    ),
    Command("predict", "predict on images with a trained model", "lt_det.cli.predict"),
    Command("sweep", "train a config with many values and seeds", "lt_det.cli.sweep"),
    Command(
        "posthoc-sweep",
        "evaluate image classifiers with many post-hoc settings",
        "lt_det.cli.posthoc_sweep",
    ),
    Command(
        "logit-moments",
        "collect what the calibration LogN needs, in one pass over the training images",
        "lt_det.cli.logit_moments",
    ),
    Command(
        "class-stats", "count the classes of a data set and draw them", "lt_det.cli.class_stats"
    ),
)

_EPILOG = """\
lt-det COMMAND --help lists the options of a command. Configs that come with lt_det are found by
their name: lt-det train --config-file lvis_balms_r50.yaml. --debug, anywhere, or LT_DET_DEBUG=1
shows the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Call a command; return the exit status.

    Mistakes in what the user gave end with one line and status 1.

    Args:
        arguments: words of the command line; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in words:
        words.remove("--debug")
        before = os.environ.get(DEBUG)
        os.environ[DEBUG] = "1"  # for the processes that a training starts
        try:
            return main(words)
        finally:
            if before is None:
                del os.environ[DEBUG]
            else:
                os.environ[DEBUG] = before
    name = _parser().parse_args(words[:1]).command
    command = {command.name: command for command in COMMANDS}[name]
    try:
        with user_errors():
            status = importlib.import_module(command.module).main(words[1:])
    except UserError as error:
        text = for_log(str(error))
        print(f"lt-det {name}: error: {text} (--debug shows the traceback)", file=sys.stderr)
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    width = max(len(command.name) for command in COMMANDS)
    table = "\n".join(f"  {command.name:{width}}  {command.summary}" for command in COMMANDS)
    parser = argparse.ArgumentParser(
        prog="lt-det",
        description=f"Long-tailed detection, segmentation and classification.\n\n{table}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lt_det {__version__}")
    parser.add_argument("command", type=_known, metavar="COMMAND", help="see above")
    return parser


def _known(name: str) -> str:
    names = [command.name for command in COMMANDS]
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    raise argparse.ArgumentTypeError(f"no command {name!r}; {hint}")
