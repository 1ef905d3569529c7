"""DisAlign: a learned calibration of a frozen classifier, the second stage of a training.

Source: Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual
Recognition", arXiv:2103.16370, Eq. 6-8, and its release for detectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_det.modeling.classifiers.layers import CosineClassifier


class DisAlignClassifier(nn.Module):
    """Frozen classifier whose logits are calibrated as far as the features say.

    ``kappa (s_c z_c + b_c) + (1 - kappa) z_c`` for each class c, kappa the sigmoid of ``v x + d``
    by the features x; other columns, such as the background's, are left as they are. It starts as
    the classifier itself, to the last bit. kappa depends on the image, so this is no affine map of
    the logits: it cannot be folded into weights.

    The paper's loss is cross-entropy weighed by class: ``LT_DET.CLASS_WEIGHTS`` inverse_frequency
    with POWER 0.8 (LVIS) or 1.2 (ImageNet-LT) and DENOMINATOR weights.

    As the release for detectors; its variant for images, ``(1 + kappa s) z + kappa b``, starts
    from s = 0 and is the same family. Weight and bias keep the names and shapes of the classifier
    they come from, so a checkpoint of the first stage loads, and is this one's start.
    """

    def __init__(self, classifier: nn.Module, *, num_classes: int) -> None:
        """Take over the parameters of a classifier and freeze them.

        Args:
            classifier: linear or cosine.
            num_classes: K; its first K columns are calibrated.

        Raises:
            TypeError: if it is another one.
        """
        super().__init__()
        if type(classifier) not in (nn.Linear, CosineClassifier):
            raise TypeError(
                f"DisAlign calibrates a linear or a cosine classifier, got a "
                f"{type(classifier).__name__}"
            )
        source: Any = classifier
        self.in_features, self.out_features = source.in_features, source.out_features
        self.weight, self.bias = source.weight, source.bias
        self.num_classes = num_classes
        self.cosine_scale: float | None = getattr(source, "scale", None)
        self.class_scale = nn.Parameter(torch.ones(num_classes))
        self.class_shift = nn.Parameter(torch.zeros(num_classes))
        self.confidence = nn.Linear(self.in_features, 1)
        nn.init.normal_(self.confidence.weight, std=0.01)
        nn.init.zeros_(self.confidence.bias)
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> DisAlignClassifier:
        """Let the calibration alone learn, or nothing."""
        super().requires_grad_(requires_grad)
        for frozen in (self.weight, self.bias):
            if frozen is not None:
                frozen.requires_grad_(False)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(R, C)`` logits of ``(R, D)`` features."""
        if self.cosine_scale is None:
            logits = F.linear(features, self.weight, self.bias)
        else:
            cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
            logits = self.cosine_scale * cosine
            logits = logits if self.bias is None else logits + self.bias
        classes, rest = logits[:, : self.num_classes], logits[:, self.num_classes :]
        kappa = self.confidence(features).sigmoid()
        # Written as a change: nothing at the start, without rounding.
        change = (self.class_scale - 1) * classes + self.class_shift
        return torch.cat([classes + kappa * change, rest], dim=1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The stage before had a plain classifier. This runs before that of the confidence layer.
        if f"{prefix}weight" in state_dict:
            own: Mapping[str, Tensor] = self.state_dict()
            for name in ("class_scale", "class_shift", "confidence.weight", "confidence.bias"):
                state_dict.setdefault(f"{prefix}{name}", own[name].clone())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return sizes, for ``print(model)``."""
        scale = "" if self.cosine_scale is None else f", cosine scale={self.cosine_scale}"
        return f"in={self.in_features}, out={self.out_features}, K={self.num_classes}{scale}"
