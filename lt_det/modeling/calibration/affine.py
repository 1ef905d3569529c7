"""Map the foreground logits of a classifier class by class."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor


class Calibration(abc.ABC):
    """Class-wise map of K foreground logits; a background column is handed on as it is."""

    @property
    @abc.abstractmethod
    def num_classes(self) -> int:
        """K, foreground classes."""

    @abc.abstractmethod
    def foreground(self, logits: Tensor) -> Tensor:
        """Return the mapped foreground logits, of the shape and dtype of ``logits``.

        Args:
            logits: ``(R, K)``, float32 or float64, without a background.
        """

    def __call__(self, logits: Tensor, *, background: bool) -> Tensor:
        """Return ``(R, C)`` mapped logits, float32, or float64 for float64.

        Args:
            logits: ``(R, C)`` float of any precision, C is K, or K + 1 with a background.
            background: whether the last column is the background's.

        Raises:
            ValueError: if there are not K foreground columns.
        """
        wide = logits if logits.dtype == torch.float64 else logits.float()
        given = wide[:, : wide.shape[1] - background]
        if given.shape[1] != self.num_classes:
            raise ValueError(
                f"logits must have {self.num_classes} foreground columns, one for each class of "
                f"the calibration, got shape {tuple(logits.shape)} with background={background}"
            )
        mapped = self.foreground(given)
        return torch.cat([mapped, wide[:, -1:]], dim=1) if background else mapped


@dataclass(frozen=True, eq=False)
class Affine(Calibration):
    """The map ``z_k -> scale_k z_k + shift_k`` of the foreground logits.

    With a softmax over foreground and background the background keeps its logit, so a shift that
    is the same for all classes changes the odds of all foreground against the background. With
    sigmoids each class is mapped by itself.

    Attributes:
        scale: ``(K,)`` float64, on the CPU.
        shift: ``(K,)`` float64, on the CPU.

    Raises:
        ValueError: if they are not two vectors of K finite numbers.
    """

    scale: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            value = torch.as_tensor(getattr(self, name)).detach().to("cpu", torch.float64)
            object.__setattr__(self, name, value)
        if self.scale.dim() != 1 or self.scale.shape != self.shift.shape:
            raise ValueError(
                "scale and shift must both have shape (K,), got "
                f"{tuple(self.scale.shape)} and {tuple(self.shift.shape)}"
            )
        bad = (~(self.scale.isfinite() & self.shift.isfinite())).nonzero().flatten()
        if len(bad):
            raise ValueError(
                f"scale and shift must be finite, not so for {len(bad)} class ids, first "
                f"{bad[:5].tolist()}"
            )

    @classmethod
    def identity(cls, num_classes: int) -> Affine:
        """Return the map that changes nothing."""
        return cls(torch.ones(num_classes), torch.zeros(num_classes))

    @property
    def num_classes(self) -> int:
        """K, foreground classes."""
        return len(self.scale)

    def then(self, after: Affine) -> Affine:
        """Return the map that is this one followed by ``after``, as one."""
        return Affine(after.scale * self.scale, after.scale * self.shift + after.shift)

    def foreground(self, logits: Tensor) -> Tensor:
        """Return ``(R, K)``: scale times ``logits`` plus shift."""
        return torch.addcmul(self.shift.to(logits), self.scale.to(logits), logits)


def check_strength(value: float, *, name: str) -> None:
    """Raise unless ``value`` is a finite number of at least 0.

    Raises:
        ValueError: names the argument.
    """
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"{name} must be at least 0, got {value}")
