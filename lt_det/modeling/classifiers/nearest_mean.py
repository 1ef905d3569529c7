"""Nearest class mean: classify trained features without training a classifier.

"NCM" of Kang et al., arXiv:1910.09217, section 4.2, with the cosine: the class whose mean of
L2-normalised training features has the highest cosine with the feature. The paper has the mean of
features, and says of lengths only that it is taken by cosine, or after normalisation; here long
features weigh no more than short ones.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_det.modeling.classifiers.layers import CosineClassifier

logger = logging.getLogger(__name__)


class ClassMeans:
    """Sums of normalised features by class, a batch at a time."""

    def __init__(self, *, num_classes: int, num_features: int) -> None:
        """Start from no image.

        Args:
            num_classes: K.
            num_features: D.
        """
        # float64: the mean of 100,000 features in float32 would depend on their order.
        self._sums = torch.zeros(num_classes, num_features, dtype=torch.float64)
        self._counts = torch.zeros(num_classes, dtype=torch.int64)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take in a batch.

        Args:
            features: ``(B, D)``, of any length each.
            labels: ``(B,)`` int64 in [0, K).
        """
        labels = labels.cpu()
        self._sums.index_add_(0, labels, F.normalize(features.double(), dim=1).cpu())
        self._counts += labels.bincount(minlength=len(self._counts))

    def classifier(self, *, scale: float) -> CosineClassifier:
        """Return the classifier, float32 on the CPU; its weights are the ``(K, D)`` means.

        A class without images has the cosine 0.

        Args:
            scale: factor of the cosine. It changes probabilities, not predictions.
        """
        empty = (self._counts == 0).nonzero()[:, 0].tolist()
        if empty:
            logger.warning(
                "%d classes have no training image and so no mean, first %s", len(empty), empty[:10]
            )
        linear = nn.Linear(self._sums.shape[1], self._sums.shape[0], bias=False)
        with torch.no_grad():
            linear.weight.copy_(self._sums / self._counts.clamp(min=1)[:, None])
        return CosineClassifier(linear, scale=scale)
