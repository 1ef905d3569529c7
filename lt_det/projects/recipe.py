"""Recipe of a training: stages, and the values of their configs with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """A value of a config and why it has it.

    Attributes:
        key: of the config, dotted.
        value: text, number, truth value, or a list of them.
        reason: one line, for the comment beside it.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Stage:
    """One config.

    Attributes:
        name: of the yaml without its ending, and of the folder of its outputs.
        base: config that it stands on, as ``_BASE_`` has it.
        about: lines at the head of the yaml.
        settings: in the order of the yaml; keys of one node need not stand together.
    """

    name: str
    base: str
    about: tuple[str, ...]
    settings: tuple[Setting, ...]

    def value(self, key: str) -> Any:
        """Return the value of a key.

        Raises:
            KeyError: if the stage does not set it.
        """
        for setting in self.settings:
            if setting.key == key:
                return setting.value
        raise KeyError(f"stage {self.name!r} does not set {key}")


@dataclass(frozen=True)
class Recipe:
    """Stages of a training, in order.

    Attributes:
        stages: at least one.
        notes: what the user should know before the training, a sentence each.
    """

    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()


def settings_of(*groups: Sequence[Setting | None]) -> tuple[Setting, ...]:
    """Return the settings of several groups in order, those that are None left out."""
    return tuple(one for group in groups for one in group if one is not None)
