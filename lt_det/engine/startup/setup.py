"""Turn the command line into a config."""

from __future__ import annotations

import argparse
import contextlib
import copy
import difflib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from lt_det.config import add_lt_det_config
from lt_det.config_files import find_config
from lt_det.engine.startup.config_reader import ConfigReader, absolute_datasets
from lt_det.engine.startup.datasets import register_datasets
from lt_det.engine.startup.home_paths import expand_home
from lt_det.engine.startup.log_file import keep_explained_errors_off_terminal, say_once
from lt_det.engine.startup.num_classes import (
    forget_num_classes,
    mark_num_classes,
    set_num_classes,
)
from lt_det.engine.startup.output_folder import check_output_folder
from lt_det.shown_text import for_log
from lt_det.storage.atomic_write import naming_full_disk

logger = logging.getLogger(__name__)

_LOGGERS = ("detectron2", "fvcore", "lt_det")


def argument_parser(*, prog: str | None = None) -> argparse.ArgumentParser:
    """Return Detectron2's parser with ``--stages``.

    Args:
        prog: command, for its usage; None is the name of the script.
    """
    epilog = f"Example: {prog} --config-file lvis_balms_r50.yaml --num-gpus 8" if prog else None
    parser = default_argument_parser(epilog)
    parser.prog = prog or parser.prog
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="FILE",
        help="config files to train one after the other, each from the checkpoint of the one "
        "before; instead of --config-file. Outputs go to the OUTPUT_DIR of each config; with "
        "OUTPUT_DIR on the command line, to OUTPUT_DIR/<name of the file>. "
        "With --resume, stages that are done are skipped",
    )
    return parser


def load_config(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """Return :func:`read_config`'s config, its data sets registered and its classes counted.

    The data sets are the ones in LT_DET.DATASETS and LT_DET.CLASSIFICATION.DATASETS. A
    NUM_CLASSES of a detector that neither file nor options set is that of the training set.

    Raises:
        ValueError: if they cannot be registered, or as :func:`read_config`.
        FileNotFoundError: see there.
        KeyError: see there.
    """
    cfg = _read(config_file, opts)
    register_datasets(cfg)
    set_num_classes(cfg)
    return cfg


def read_config(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """Return Detectron2's config with our keys, a yaml file and command-line options merged.

    Args:
        config_file: path, or name of a config that comes with the package, see
            :func:`lt_det.config_files.find_config`; "" is Detectron2's defaults. Relative paths in
            its LT_DET.DATASETS count from its folder.
        opts: KEY VALUE pairs.

    Raises:
        FileNotFoundError: if there is no such file, or one of its bases is missing.
        ValueError: if the yaml wants to build python objects or is no yaml, the options are no
            pairs, a value has the wrong type, or a path begins with the ``~`` of nobody.
        KeyError: if a key does not exist; the message has the nearest ones.
    """
    cfg = _read(config_file, opts)
    forget_num_classes(cfg)
    return cfg


def _read(config_file: str, opts: Sequence[str]) -> CfgNode:
    """Return :func:`read_config`'s config with the mark of what does not set NUM_CLASSES."""
    cfg = get_cfg()
    add_lt_det_config(cfg)
    mark_num_classes(cfg)
    if config_file:
        config_file = find_config(config_file)
        try:
            reader = ConfigReader(cfg)
            # Detectron2's default would run python tags.
            reader.merge_from_file(config_file, allow_unsafe=False)
            cfg = CfgNode(reader)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{config_file!r}: {error}") from error
        except yaml.YAMLError as error:
            raise ValueError(
                f"{config_file!r} was refused: it is not plain yaml (python tags, which could run "
                f"code, are not read). {error}"
            ) from error
        except KeyError as error:
            raise _unknown_key(cfg, error, config_file) from error
        except RecursionError as error:
            raise ValueError(f"{config_file!r} is a _BASE_ of itself") from error
        except ValueError as error:
            raise ValueError(f"{config_file!r}: {error}{_float_hint(error)}") from error
        except (TypeError, AttributeError, AssertionError) as error:
            # A list or nothing in place of keys, a value in place of a node.
            raise ValueError(f"{config_file!r} is no tree of config keys: {error}") from error
    if len(opts) % 2:
        raise ValueError(
            f"options come as KEY VALUE pairs, got {len(opts)} words ending in {opts[-1]!r}; flags "
            "like --resume and --eval-only go before them"
        )
    for key, value in zip(opts[::2], opts[1::2]):
        try:
            cfg.merge_from_list([key, value])
        except (AssertionError, KeyError) as error:
            raise _unknown_key(cfg, error, "the command line") from error
        except ValueError as error:
            raise ValueError(f"{key} {value!r}: {error}{_float_hint(error)}") from error
    if "LT_DET.DATASETS" in opts[::2]:
        # The config.yaml of the run would say that they count from its folder.
        cfg.LT_DET.DATASETS = absolute_datasets(cfg.LT_DET.DATASETS, os.getcwd())
    expand_home(cfg)
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the frozen config of ``--config-file`` and options, and set up logging and seeds.

    Detectron2's report of the machine and the config goes to OUTPUT_DIR/log.txt, and the config
    to OUTPUT_DIR/config.yaml; the terminal says only where.
    """
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    check_output_folder(cfg.OUTPUT_DIR)
    _forget_loggers()
    args = copy.copy(args)
    if args.config_file:
        args.config_file = find_config(args.config_file)  # Detectron2 reads it for its log
    rank = comm.get_rank()
    # Detectron2 will ask for the same two, and gets them as they are.
    ready = [
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore"),
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank),
    ]
    # Detectron2 sets up its own loggers only; ours writes to the same log.txt.
    ready.append(setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="lt_det"))
    say_once(handler for one in ready for handler in one.handlers)
    with _not_on_terminal(ready), naming_full_disk(cfg.OUTPUT_DIR):
        default_setup(cfg, args)
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_write_out_controls)
        keep_explained_errors_off_terminal(logging.getLogger(name).handlers)
    logger.info(
        "Config %s, written whole to %s",
        args.config_file or "of Detectron2",
        os.path.join(cfg.OUTPUT_DIR, "config.yaml"),
    )
    return cfg


def _write_out_controls(record: logging.LogRecord) -> bool:
    """Keep escape sequences in names out of foreign files from the terminal; a log filter."""
    message = record.getMessage()
    shown = for_log(message)
    if shown != message:
        record.msg, record.args = shown, None
    return True


@contextlib.contextmanager
def _not_on_terminal(loggers: Sequence[logging.Logger]) -> Iterator[None]:
    """Write what is logged in the block to the files only."""
    terminal = [
        handler
        for one in loggers
        for handler in one.handlers
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    ]
    levels = [handler.level for handler in terminal]
    try:
        for handler in terminal:
            handler.setLevel(logging.WARNING)
        yield
    finally:
        for handler, level in zip(terminal, levels):
            handler.setLevel(level)


def _forget_loggers() -> None:
    """Close the log of a stage before: one process may run several, each with its own log.txt."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
    # It remembers its arguments and would not add the handlers again.
    if hasattr(setup_logger, "cache_clear"):
        setup_logger.cache_clear()


def _float_hint(error: ValueError) -> str:
    """Return what to write where a whole number stands for a float."""
    match = re.search(
        r"<class 'float'> vs. <class 'int'>\) with values \(.* vs. (.*?)\)", str(error)
    )
    return f"; write {match[1]}.0" if match else ""


def _unknown_key(cfg: CfgNode, error: BaseException, source: str) -> Exception:
    text = str(error.args[0]) if error.args else str(error)
    if "Non-existent" not in text:
        return error if isinstance(error, Exception) else RuntimeError(text)
    key = text.split(":")[-1].strip().strip("'\"")
    known = list(_keys(cfg))
    short = {k.split(".")[-1]: k for k in known}
    close = difflib.get_close_matches(key, known, n=2) or [
        short[k] for k in difflib.get_close_matches(key.split(".")[-1], short, n=2)
    ]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    if key.startswith("--"):
        hint = "; flags go before the KEY VALUE pairs"
    return KeyError(f"config key {key!r} in {source} does not exist{hint}")


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
