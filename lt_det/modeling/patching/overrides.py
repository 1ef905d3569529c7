"""Set attributes of single objects, and take them back."""

from __future__ import annotations

from typing import Any

from torch import nn

#: Name of the child module that a patched module gets. It has no parameters.
PATCH = "lt_det_patch"


class Patch(nn.Module):
    """Patch of a module: its loss, and how to take everything back.

    It is a child of the module that it changes, so that copies, pickles and moves of the model
    include it; it adds no key to a ``state_dict``, but for the running state of a loss with one.
    """

    _owner: Any

    def __init__(self) -> None:
        """Change nothing yet."""
        super().__init__()
        self._changes: list[tuple[Any, str, bool, Any]] = []
        self._undone: list[tuple[Any, str, Any]] = []

    def override(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of this one object, not of its class."""
        children = getattr(owner, "_modules", {})
        own = name in vars(owner) or name in children
        before = children.get(name, vars(owner).get(name)) if own else None
        self._changes.append((owner, name, own, before))
        setattr(owner, name, value)

    def own(self, owner: Any, name: str) -> Any:
        """Return the attribute as it was before :meth:`override`, bound to ``owner``."""
        for changed, changed_name, own, before in self._changes:
            if changed is owner and changed_name == name:
                return before if own else getattr(type(owner), name).__get__(owner)
        return getattr(owner, name)

    def attach(self, owner: nn.Module) -> None:
        """Become a child of ``owner``, in its mode."""
        self.train(owner.training)
        owner.add_module(PATCH, self)
        object.__setattr__(self, "_owner", owner)

    def undo(self) -> None:
        """Take back all changes, last first."""
        self._undone = [(owner, name, getattr(owner, name)) for owner, name, *_ in self._changes]
        for owner, name, own, before in reversed(self._changes):
            if own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)
        self._changes.clear()
        delattr(self._owner, PATCH)

    def redo(self) -> None:
        """Make the changes again that :meth:`undo` has taken back."""
        self.attach(self._owner)
        for owner, name, value in self._undone:
            self.override(owner, name, value)


def patches(model: nn.Module) -> list[Patch]:
    """Return the patches in ``model``."""
    return [module for module in model.modules() if isinstance(module, Patch)]
