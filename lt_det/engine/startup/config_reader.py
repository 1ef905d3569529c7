"""Read config yaml files, their bases by name and their data sets by path."""

from __future__ import annotations

import ast
import contextlib
import os
from typing import Any

from detectron2.config import CfgNode

from lt_det.config_files import PREFIX, find_config
from lt_det.storage.regular_file import check_regular

#: Before a path that starts from the folder of the yaml that has it.
HERE = "here://"


class ConfigReader(CfgNode):
    """A config while it is read from a file.

    Beyond Detectron2's: a ``_BASE_`` may be a config that comes with the package, as
    ``lt_det://lvis_balms_r50.yaml``; relative paths in LT_DET.DATASETS count from the folder of
    the file that has them, and so does any value that begins with ``here://``.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> Any:
        """Return the content of a yaml file on top of its bases, its paths absolute.

        Raises:
            FileNotFoundError: if it, or a base, does not exist.
        """
        if PREFIX in filename:  # fvcore has put the folder of the yaml before it
            filename = find_config(filename[filename.index(PREFIX) :])
        if "://" not in filename and not os.path.isfile(filename):
            check_regular(filename)
            raise FileNotFoundError(f"_BASE_ {filename!r} does not exist")
        tree = super().load_yaml_with_base(filename, allow_unsafe=allow_unsafe)
        node = tree.get("LT_DET") if isinstance(tree, dict) else None
        if isinstance(node, dict) and "DATASETS" in node and "://" not in filename:
            folder = os.path.dirname(os.path.abspath(filename))
            # Those of the bases are absolute already.
            node["DATASETS"] = absolute_datasets(node["DATASETS"], folder)
        if "://" not in filename:
            tree = _placed(tree, os.path.dirname(os.path.abspath(filename)))
        return tree


def _placed(value: Any, folder: str) -> Any:
    """Return a tree with ``folder`` in the place of ``here://``."""
    if isinstance(value, dict):
        return {key: _placed(one, folder) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_placed(one, folder) for one in value]
    if isinstance(value, str) and value.startswith(HERE):
        return os.path.normpath(os.path.join(folder, value[len(HERE) :]))
    return value


def absolute_datasets(entries: Any, folder: str) -> Any:
    """Return ``[name, json, image_root]`` entries, paths from ``folder``; others as they are.

    Args:
        entries: value of LT_DET.DATASETS, or what stands in its place.
        folder: that relative paths start from.
    """
    if isinstance(entries, str):  # yaml knows no tuples
        with contextlib.suppress(ValueError, SyntaxError):
            entries = ast.literal_eval(entries)
    if not isinstance(entries, (list, tuple)):
        return entries
    return [
        [entry[0], *(_absolute_path(part, folder) for part in entry[1:])]
        if isinstance(entry, (list, tuple)) and entry
        else entry
        for entry in entries
    ]


def _absolute_path(path: Any, folder: str) -> Any:
    if not isinstance(path, str) or not path or path.startswith("~") or "://" in path:
        return path
    return os.path.normpath(os.path.join(folder, path))
