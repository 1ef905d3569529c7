"""Module whose buffers follow the model to its device and keep their dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

_Self = TypeVar("_Self", bound="KeptDtypes")


class KeptDtypes(nn.Module):
    """Module that no cast of the model changes: half precision holds no 100,000."""

    def _apply(self: _Self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> _Self:
        before = dict(self._buffers)
        super()._apply(fn, *args, **kwargs)
        for name, value in before.items():
            moved = self._buffers[name]
            if value is not None and moved is not None and moved.dtype != value.dtype:
                self._buffers[name] = value.to(moved.device)
        return self
