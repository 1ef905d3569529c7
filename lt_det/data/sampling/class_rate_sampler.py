"""Draw images by class, with class probabilities that change during training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class ClassRateSampler(Sampler[int]):
    """Endless stream of image indices: draws a class by its probability, then one of its images.

    Each batch is a function of the seed, the rank, its number and the probabilities at the time
    that its first image is asked for. So a resumed run goes on as an uninterrupted one, unless
    loader processes ask ahead; then batches are drawn with somewhat older probabilities.
    """

    def __init__(
        self,
        labels: Sequence[int],
        probabilities: Callable[[], Sequence[float] | np.ndarray],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
    ) -> None:
        """Sort the images by class.

        Args:
            labels: ``(N,)`` class id of each image.
            probabilities: returns ``(K,)`` numbers >= 0 in proportion to which classes are
                drawn; those of classes without images do not count.
            batch_size: of this rank.
            seed: >= 0, the same on all ranks.
            rank: of this process.

        Raises:
            ValueError: if there is no image.
        """
        if not len(labels):
            raise ValueError("labels is empty: there is no image to draw")
        self._by_class = np.argsort(np.asarray(labels), kind="stable")
        self._counts = np.bincount(np.asarray(labels))
        self._starts = np.cumsum(self._counts) - self._counts
        self._probabilities, self._batch_size = probabilities, batch_size
        self._seed, self._rank = seed, rank

    def __iter__(self) -> Iterator[int]:
        """Yield indices, for ever."""
        for batch in itertools.count():
            generator = np.random.default_rng((self._seed, self._rank, batch))
            rates = np.asarray(self._probabilities(), dtype=np.float64)[: len(self._counts)]
            rates = np.where(self._counts[: len(rates)] > 0, rates, 0.0)
            drawn = generator.choice(len(rates), size=self._batch_size, p=rates / rates.sum())
            places = (generator.random(self._batch_size) * self._counts[drawn]).astype(np.int64)
            yield from self._by_class[self._starts[drawn] + places].tolist()
