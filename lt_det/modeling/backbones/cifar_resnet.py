"""Small residual networks for the CIFAR experiments.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: a 3x3
convolution, then three stages of basic blocks with w, 2w and 4w channels at strides 1, 2 and 4;
shortcuts without parameters (their option A). Depth 32 with w = 16 is the ResNet-32 of the
long-tail papers (arXiv:1906.07413, arXiv:2007.10740).
"""

from __future__ import annotations

from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

_NUM_STAGES = 3


class CifarResNet(Backbone):
    """Residual network for small images; one feature map of 4w channels."""

    def __init__(
        self, *, depth: int = 32, width: int = 16, stem_stride: int = 1, in_channels: int = 3
    ) -> None:
        """Build the network with He's initialisation.

        Args:
            depth: weighted layers, 6n + 2: 20, 32, 44, 56, 110 in the paper.
            width: channels of the first stage, w.
            stem_stride: 1 as in the paper; 2 is not in it and takes a quarter of the work. The map
                is then of stride 8, not 4.
            in_channels: channels of the input.

        Raises:
            ValueError: if ``depth`` is not 6n + 2 with n >= 1, ``width`` is below 1, or
                ``stem_stride`` is neither 1 nor 2.
        """
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(
                f"LT_DET.CIFAR_RESNET.DEPTH must be 6n + 2 (8, 14, 20, 26, 32, ...), got {depth}"
            )
        if width < 1:
            raise ValueError(f"LT_DET.CIFAR_RESNET.WIDTH must be at least 1, got {width}")
        if stem_stride not in (1, 2):
            raise ValueError(f"LT_DET.CIFAR_RESNET.STEM_STRIDE must be 1 or 2, got {stem_stride}")
        blocks_per_stage = (depth - 2) // 6
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(_NUM_STAGES):
            for index in range(blocks_per_stage):
                out = width * 2**stage
                blocks.append(_BasicBlock(channels, out, stride=2 if stage and not index else 1))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        stride = stem_stride * 2 ** (_NUM_STAGES - 1)
        self._name = f"stride{stride}"
        self._out_features = [self._name]
        self._out_feature_channels = {self._name: channels}
        self._out_feature_strides = {self._name: stride}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the feature map, under "stride4" ``(B, 4w, ceil(H/4), ceil(W/4))``.

        Args:
            images: ``(B, in_channels, H, W)`` float, normalised.
        """
        return {self._name: self.blocks(F.relu(self.stem(images), inplace=True))}


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self._stride, self._new_channels = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = self.norm2(self.conv2(out))
        return F.relu(out.add_(self._shortcut(x)), inplace=True)

    def _shortcut(self, x: Tensor) -> Tensor:
        """Return ``x``, subsampled and with zero channels where the block changes its shape."""
        if self._stride > 1:
            x = x[:, :, :: self._stride, :: self._stride]
        if self._new_channels:
            before = self._new_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self._new_channels - before))
        return x


@BACKBONE_REGISTRY.register()
def build_lt_det_cifar_resnet_backbone(cfg: Any, input_shape: ShapeSpec) -> CifarResNet:
    """Return the network of ``cfg.LT_DET.CIFAR_RESNET``.

    Args:
        cfg: Detectron2 config with lt_det's keys.
        input_shape: shape of the input; its channels are used.
    """
    keys = cfg.LT_DET.CIFAR_RESNET
    return CifarResNet(
        depth=keys.DEPTH,
        width=keys.WIDTH,
        stem_stride=keys.STEM_STRIDE,
        in_channels=input_shape.channels,
    )
