"""A config says only what differs from its bases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode

from lt_det.engine.startup.setup import load_config

FOLDER = Path(__file__).resolve().parents[1] / "configs"
FILES = [
    p for p in sorted(FOLDER.rglob("*.yaml")) if "_BASE_" in (yaml.safe_load(p.read_text()) or {})
]


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_at(cfg: Any, name: str) -> Any:
    for part in name.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(FOLDER).as_posix())
def test_no_key_repeats_the_value_of_a_base(path, tmp_path):
    own = yaml.safe_load(path.read_text())
    bases = own.pop("_BASE_")
    bases = [bases] if isinstance(bases, str) else bases
    for base in bases:
        assert (path.parent / base).is_file(), base
    below = tmp_path / "below.yaml"
    below.write_text(yaml.safe_dump({"_BASE_": [str(path.parent / b) for b in bases]}))
    # Detectron2's defaults may be repeated: a data set says its number of classes.
    said = dict(leaves(CfgNode.load_yaml_with_base(str(below))))
    before, after = load_config(str(below)), load_config(str(path))
    for name, _ in leaves(own):
        if name in said:
            assert value_at(before, name) != value_at(after, name), f"{name} repeats its base"
