"""Classify images by other classifiers on cached features, without the backbone.

Shape shorthand: B images of a test batch, D features, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_det.balancing.candidates import Candidate
from lt_det.balancing.replay import Classifiers
from lt_det.balancing.truth import Predicted
from lt_det.engine.regions.store import ImageRegions
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier
from lt_det.modeling.classifiers.layers import (
    CosineClassifier,
    ScaledClassifier,
    linear_parameters,
)
from lt_det.tasks import build_task

#: Images that an interruption loses at most, in whole test batches.
IMAGES_PER_SHARD = 2048


def parameters_of(classifier: Any) -> tuple[Tensor, Tensor]:
    """Return copies of weight ``(K, D)`` and bias ``(K,)``, on the CPU.

    The bias is 0 where there is none. Of a cosine they are as they are, of all others those of the
    linear map.

    Raises:
        TypeError: for a classifier that has no such parameters.
    """
    weight: Tensor
    bias: Tensor
    if isinstance(classifier, CosineClassifier):
        weight, given = classifier.weight, classifier.bias
        bias = weight.new_zeros(len(weight)) if given is None else given
    else:
        weight, bias = linear_parameters(classifier)
    return weight.detach().cpu().clone(), bias.detach().cpu().clone()


class ImageReplay:
    """The part of an image classifier that comes after the features."""

    def __init__(self, model: nn.Module) -> None:
        """Copy classifier and activation of ``model``, to the CPU.

        Raises:
            ValueError: if it cannot be replayed; says why.
        """
        layer: Any = getattr(model, "cls_score", None)
        known = (nn.Linear, CosineClassifier, ScaledClassifier)
        if not isinstance(model, LongTailImageClassifier) or type(layer) not in known:
            raise ValueError(
                f"{type(model).__name__} with the classifier {type(layer).__name__} cannot be "
                "replayed: balance knows LongTailImageClassifier with LT_DET.CLASSIFIER.NAME "
                "'linear', 'cosine' or 'lws', without DISALIGN"
            )
        if model.post_hoc is not None:
            raise ValueError(
                "LT_DET.POST_HOC is set: balance tries corrections of its own on the model as it "
                "was trained; set them to 0"
            )
        self._own = parameters_of(layer)
        self.is_cosine = isinstance(layer, CosineClassifier)
        self.has_bias = layer.bias is not None
        self._criterion = copy.deepcopy(model.criterion).cpu().eval()
        # With a bias, which calibrations shift.
        linear = nn.Linear(layer.in_features, layer.out_features)
        of_model = copy.deepcopy(layer).cpu().eval()
        self._layer = CosineClassifier(linear, scale=of_model.scale) if self.is_cosine else linear

    def own_classifiers(self) -> Classifiers:
        """Return copies of weight and bias that the model was trained with."""
        weight, bias = self._own
        return [(weight.clone(), bias.clone())]

    @torch.no_grad()
    def scores(self, features: Tensor, classifiers: Classifiers) -> Tensor:
        """Return ``(B, K)`` scores of ``(B, D)`` features, as the model with these classifiers."""
        ((weight, bias),) = classifiers
        parameters = {"weight": weight, "bias": bias}
        logits = torch.func.functional_call(self._layer, parameters, (features,))
        return self._criterion.scores(logits.float())


class FrozenFeatures:
    """The :class:`~lt_det.balancing.evaluation_cache.FrozenPart` of an image classifier."""

    exact = ()

    def __init__(self, cfg: Any, model: Any, replay: ImageReplay) -> None:
        """Hold ``model``, in evaluation mode with its weights."""
        self._model, self._replay, self._is_compared = model, replay, False
        self.mapper = build_task(cfg).build_mapper(cfg, is_train=False)
        # As in an evaluation: other batches are computed in another way, to the last bits.
        self.batch = cfg.LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH
        self.images_per_shard = max(IMAGES_PER_SHARD // self.batch, 1) * self.batch

    @torch.no_grad()
    def records(self, dicts: Sequence[dict]) -> Iterator[ImageRegions]:
        """See :class:`~lt_det.balancing.evaluation_cache.FrozenPart`; one row for each image."""
        for start in range(0, len(dicts), self.batch):
            samples = self.mapper(dicts[start : start + self.batch])
            features = self._model.features(self._model.images(samples)).float().cpu()
            if not self._is_compared:
                self._compare(samples, features)
                self._is_compared = True
            for row, sample in zip(features, samples):
                yield [(row[None].clone(), torch.tensor([sample["category_id"]]))]

    def _compare(self, samples: Sequence[dict], features: Tensor) -> None:
        found = torch.stack([output["scores"] for output in self._model(samples)]).cpu()
        again = self._replay.scores(features, self._replay.own_classifiers())
        if not torch.allclose(found, again, rtol=1e-3, atol=1e-5):
            raise ValueError(
                f"the scores of {type(self._model).__name__} are not those that its classifier "
                "gives for its pooled features: something else changes them, and balance would "
                "try classifiers on another model"
            )


class ImageEvaluation:
    """Evaluates candidates on all test images, held in memory."""

    def __init__(self, replay: ImageReplay, store: Sequence[ImageRegions], *, batch: int) -> None:
        """Read the features.

        Args:
            replay: of the model.
            store: records of :class:`FrozenFeatures`.
            batch: images of a test batch.
        """
        self._replay = replay
        self._batches = [
            torch.cat([store[i][0][0] for i in range(start, min(start + batch, len(store)))])
            for start in range(0, len(store), batch)
        ]

    def __call__(
        self,
        candidates: Sequence[Candidate],
        settings: Sequence[None],
        *,
        on_image: Callable[[int], object] = lambda _: None,
    ) -> list[list[Predicted]]:
        """Return for each candidate, in a list of one, what it says of each image.

        Args:
            candidates: to evaluate.
            settings: a single None: there are no limits.
            on_image: called with the number of images of each batch.
        """
        del settings
        found: list[list[np.ndarray]] = [[] for _ in candidates]
        for features in self._batches:
            for of_candidate, candidate in zip(found, candidates):
                scores = self._replay.scores(features, candidate.classifiers)
                of_candidate.append(scores.max(dim=1).indices.to(torch.int32).numpy())
            on_image(len(features))
        return [[Predicted(np.concatenate(classes))] for classes in found]
