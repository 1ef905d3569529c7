"""Write a stage as a yaml file, the reason of each value beside it."""

from __future__ import annotations

import json
import math
import textwrap
from typing import Any

from lt_det.projects.recipe import Setting, Stage
from lt_det.shown_text import for_terminal

_WIDTH = 110


def yaml_text(stage: Stage) -> str:
    """Return the yaml of a stage; Detectron2 reads it with the keys of this package.

    A reason stands behind its value where the line is short enough, else above it.

    Args:
        stage: its keys may come in any order; nodes stand in the order of their first key.
    """
    tree: dict[str, Any] = {}
    for setting in stage.settings:
        *nodes, leaf = setting.key.split(".")
        place = tree
        for node in nodes:
            place = place.setdefault(node, {})
        place[leaf] = setting
    lines = [line for text in stage.about for line in _comment(text, "")]
    lines.append(f"_BASE_: {json.dumps(stage.base, ensure_ascii=False)}")
    return "\n".join([*lines, *_lines(tree, "")]) + "\n"


def yaml_value(value: Any) -> str:
    """Return a value as yaml on one line.

    Raises:
        ValueError: for a number that is not finite.
        TypeError: for a value of another type than yaml's plain ones.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"value must be finite, got {value}")
        # Yaml takes 1e-05 for a text.
        text = f"{value:.10f}".rstrip("0")
        return f"{text}0" if text.endswith(".") else text
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=for_terminal(value) != value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(yaml_value, value))}]"
    raise TypeError(f"value must be plain, got {type(value).__name__}")


def _lines(tree: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Setting):
            lines += _setting_lines(key, value, indent)
        else:
            lines += [f"{indent}{key}:", *_lines(value, f"{indent}  ")]
    return lines


def _setting_lines(key: str, setting: Setting, indent: str) -> list[str]:
    line = f"{indent}{key}: {yaml_value(setting.value)}"
    reason = for_terminal(setting.reason)
    if len(line) + len(reason) + 4 <= _WIDTH:
        return [f"{line}  # {reason}"]
    return [*_comment(reason, indent), line]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        for_terminal(text),
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
