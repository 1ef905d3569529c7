"""Draw images class by class: class-aware sampling.

Shen et al., "Relay Backpropagation for Effective Learning of Deep Convolutional Neural Networks",
ECCV 2016, arXiv:1512.05830; ClassAwareSampler of mmdet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class ClassAwareSampler(Sampler[int]):
    """Endless stream of image indices: the next image of the next class, round and round.

    The classes that have images are gone through in a shuffled cycle, and the images of each class
    in a cycle of its own; a cycle is shuffled anew when it is exhausted. So each class comes
    equally often, and each image of a class as often as its others, without the repeats and gaps
    of draws with replacement. An image of several classes is in the cycle of each; one without
    objects is never drawn. On LVIS a rare image comes about 80 times in as many draws as there are
    images.

    All ranks draw the same stream and each takes every ``world_size``-th index of it (mmdet:
    contiguous blocks of an epoch). The stream is a pure function of the seed.

    Args:
        image_classes: class ids of each of N images.
        seed: >= 0, the same on all ranks.
        rank: of this process, 0..world_size-1.
        world_size: number of processes.

    Raises:
        ValueError: if no image has a class, or rank or seed is out of range.
    """

    def __init__(
        self,
        image_classes: Sequence[Sequence[int]],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        by_class: dict[int, list[int]] = {}
        for image, classes in enumerate(image_classes):
            for class_id in dict.fromkeys(classes):
                by_class.setdefault(int(class_id), []).append(image)
        if not by_class:
            raise ValueError(
                f"image_classes has {len(image_classes)} images, none with a class: nothing to "
                "draw from"
            )
        if seed < 0 or not 0 <= rank < world_size:
            raise ValueError(
                f"seed must be >= 0 and rank in 0..world_size-1, got {seed}, {rank} of {world_size}"
            )
        self._images = [np.array(by_class[class_id]) for class_id in sorted(by_class)]
        self._seed, self._rank, self._world_size = seed, rank, world_size

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's share of the stream, for ever."""
        return itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = np.random.default_rng(self._seed)
        cycles = [_shuffled_cycle(images, generator) for images in self._images]
        for index in _shuffled_cycle(np.arange(len(cycles)), generator):
            yield next(cycles[index])


def _shuffled_cycle(values: np.ndarray, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(values).tolist()
