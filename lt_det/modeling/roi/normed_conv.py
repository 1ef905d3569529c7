"""Normalised 1 x 1 convolution: the cosine of each pixel's features and each class's weights.

Source: the normalised mask predictor of mmdetection's Seesaw release (``NormedConv2d``), which
GOL, ECM, LOCE, IIF and FRACAL have too; the last with a learned scale.
"""

from __future__ import annotations

import math

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F


class NormedConv2d(nn.Conv2d):
    """The convolution ``scale x / (|x| + 1e-6) . w_c / (|w_c| + 1e-6) + b_c``.

    Norms are over channels. Weight and bias have the names and shapes of the ``Conv2d`` that it
    replaces, so checkpoints load; one without a learned scale loads with that of the start.

    Attributes:
        scale: factor of the cosine; a parameter where it is learned.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, scale: float = 20.0, learn_scale: bool = False
    ) -> None:
        """Start as the release does: weights of Kaiming's normal draw by outputs, bias 0.

        Args:
            in_channels: of the features.
            out_channels: K.
            scale: above 0.
            learn_scale: whether it is a parameter.

        Raises:
            ValueError: if ``scale`` is not above 0.
        """
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale must be above 0 and finite, got {scale}")
        super().__init__(in_channels, out_channels, kernel_size=1)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.bias)
        self.learn_scale = learn_scale
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))
        else:
            self.scale = float(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(R, K, S, S)`` logits of ``(R, C, S, S)`` features."""
        return F.conv2d(self.scale * unit_length(x), unit_length(self.weight), self.bias)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        if self.learn_scale and f"{prefix}weight" in state_dict:
            state_dict.setdefault(f"{prefix}scale", self.scale.detach().clone())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return sizes and scale, for ``print(model)``."""
        learned = ", learned" if self.learn_scale else ""
        return f"{super().extra_repr()}, scale={float(self.scale)}{learned}"


def unit_length(x: Tensor) -> Tensor:
    """Return ``x`` over its length along dimension 1, plus 1e-6: 0 stays 0."""
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-6)


def check_mask_predictor(name: str, *, scale: float, learn_scale: bool) -> None:
    """Raise unless the keys of LT_DET.MASK_PREDICTOR go together.

    Raises:
        ValueError: names the key.
    """
    if name not in ("conv", "normed"):
        raise ValueError(f"LT_DET.MASK_PREDICTOR.NAME must be 'conv' or 'normed', got {name!r}")
    if name == "conv" and (learn_scale or scale != 20.0):
        key, value = ("LEARN_SCALE", learn_scale) if learn_scale else ("SCALE", scale)
        raise ValueError(
            f"LT_DET.MASK_PREDICTOR.{key} {value} would do nothing: set LT_DET.MASK_PREDICTOR.NAME "
            "'normed'"
        )
    if not 0.0 < scale < math.inf:
        raise ValueError(
            f"LT_DET.MASK_PREDICTOR.SCALE must be above 0 and finite, got {scale}: 20 is usual"
        )


def normed_in_place_of(conv: Conv2d, *, scale: float, learn_scale: bool) -> NormedConv2d:
    """Return a normalised convolution of the sizes of ``conv``.

    Its draw does not move the random state: the rest of the model starts as without it.
    """
    with torch.random.fork_rng(devices=[]):
        return NormedConv2d(
            conv.in_channels, conv.out_channels, scale=scale, learn_scale=learn_scale
        )
