"""Config files: found by path, or by name among those that come with the package."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from lt_det.storage.regular_file import check_regular

#: Before the name of a config that comes with the package, in a ``_BASE_`` too.
PREFIX = "lt_det://"


def config_folder() -> Path:
    """Return the folder of the package's configs: in the package, or in a source tree beside it."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(config_file: str) -> str:
    """Return the path of a config file.

    An existing file is itself. What is none is looked for in :func:`config_folder` and the folders
    below it: "lvis_balms_r50.yaml", the same without its ending, or with the last folders of its
    path before it ("coco/balms_r50"), which tells files of one name apart. Behind ``lt_det://`` it
    is looked for there only. Other addresses ("https://...") stay as they are.

    Args:
        config_file: path, name or address.

    Raises:
        FileNotFoundError: if there is no such file, or several in different folders; says which
            names are close.
        ValueError: if it is a folder or a pipe, and no name of a config.
    """
    name = config_file.removeprefix(PREFIX)
    if name == config_file and ("://" in name or os.path.isfile(name)):
        return name
    root = config_folder()
    files = [path for path in sorted(root.rglob("*.*")) if path.is_file()]
    known = {path.relative_to(root).as_posix(): path for path in files}
    asked = os.path.normpath(name).replace(os.sep, "/").removeprefix("configs/")
    # A path says where the file is, and there it is not.
    is_path = name == config_file and name.startswith(("/", "~", ".."))
    for spelling in () if is_path else (asked, f"{asked}.yaml"):
        if spelling in known:
            return str(known[spelling])
        # Parts of configs lie in folders of their own and are named with them.
        found = [p for p in known if p.endswith(f"/{spelling}") and "_base_" not in p]
        if len(found) == 1:
            return str(known[found[0]])
        if found:
            raise FileNotFoundError(
                f"config {config_file!r} could be {' or '.join(found)} in {root}: name its folder"
            )
    check_regular(name)
    # By name, and by folder and name as one word: "lvis_balms_r101" is near to lvis_v1/balms_r101.
    configs = [p for p in known if "_base_" not in p]
    by_name = {os.path.basename(p): p for p in configs}
    by_name.update((p.replace("/", "_"), p) for p in configs)
    close = difflib.get_close_matches(asked.replace("/", "_"), by_name, n=3)
    hint = f"; close names: {', '.join(dict.fromkeys(by_name[c] for c in close))}" if close else ""
    raise FileNotFoundError(
        f"--config-file {config_file!r} does not exist, and no config that comes with lt_det "
        f"(in {root}) has this name{hint}"
    )
