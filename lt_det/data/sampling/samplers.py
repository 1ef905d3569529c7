"""Draw images class-balanced, for the meta set of the BALMS Meta Reweighter.

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, appendix
B.2, with the image weights of their release: the repeat factors of LVIS (Gupta et al., CVPR 2019)
with threshold 1 and no square root. The release lists every image that many times in each
epoch (70 million Python integers on LVIS); here images are drawn with replacement with
probability proportional to the same factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.stats.class_stats import annotations_of

# torch.multinomial takes no more categories.
_MAX_IMAGES = 2**24


def classes_of_images(dataset_dicts: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the sorted contiguous class ids in each image, crowds left out.

    Args:
        dataset_dicts: N dicts in Detectron2's format.
    """
    if isinstance(dataset_dicts, StoredRecords):
        index, classes, crowds = dataset_dicts.instances()
        found: list[list[int]] = [[] for _ in range(len(dataset_dicts))]
        # One number for each pair sorts faster than pairs.
        num_classes = int(classes.max(initial=0)) + 1
        images, ids = np.divmod(np.unique((index * num_classes + classes)[~crowds]), num_classes)
        for image, category_id in zip(images.tolist(), ids.tolist()):
            found[image].append(category_id)
        return found
    return [
        sorted(
            {
                int(annotation["category_id"])
                for annotation in annotations_of(record)
                if not annotation.get("iscrowd", 0)
            }
        )
        for record in dataset_dicts
    ]


def class_balanced_image_weights(
    image_classes: Sequence[Sequence[int]], *, num_classes: int
) -> np.ndarray:
    """Return ``(N,)`` float64 weights: that of the rarest class in the image, 0 without a class.

    With f(c) the fraction of annotated images that show class c, r(c) = 1 / f(c) and
    r(I) = max over c in I of r(c); so 0 or at least 1.

    Args:
        image_classes: class ids in 0..num_classes-1 of each of N images; repeats do not matter.
        num_classes: K.

    Raises:
        ValueError: if a class id is out of range, or no image has a class.
    """
    counts = class_image_counts(image_classes, num_classes=num_classes)
    num_images = sum(1 for classes in image_classes if len(classes))
    return rarest_class_weights(image_classes, num_images / counts)


def class_image_counts(image_classes: Sequence[Sequence[int]], *, num_classes: int) -> np.ndarray:
    """Return ``(K,)`` float64 numbers of images with each class, at least 1.

    Args:
        image_classes: class ids of each of N images; repeats do not matter.
        num_classes: K.

    Raises:
        ValueError: if a class id is out of range, or no image has a class.
    """
    per_image = [np.unique(np.asarray(classes, dtype=np.int64)) for classes in image_classes]
    bad = [
        i
        for i, ids in enumerate(per_image)
        if ids.size and not 0 <= ids[0] <= ids[-1] < num_classes
    ]
    if bad:
        raise ValueError(
            f"image_classes must hold class ids in 0..{num_classes - 1}, not so for {len(bad)} "
            f"images, first {bad[:5]}: {image_classes[bad[0]]}"
        )
    if not any(ids.size for ids in per_image):
        raise ValueError(
            f"image_classes has {len(per_image)} images, none with a class: nothing to draw from"
        )
    counts = np.bincount(np.concatenate(per_image), minlength=num_classes)
    # A class in no image has no weight to give; no image asks for it.
    return np.maximum(counts, 1).astype(np.float64)


def rarest_class_weights(
    image_classes: Sequence[Sequence[int]], class_weights: np.ndarray
) -> np.ndarray:
    """Return ``(N,)`` float64: the largest weight of the classes in each image, 0 without one.

    Args:
        image_classes: class ids of each of N images.
        class_weights: ``(K,)``, decreasing in frequency.
    """
    return np.array(
        [max((float(class_weights[c]) for c in ids), default=0.0) for ids in image_classes]
    )


class WeightedImageSampler(Sampler[int]):
    """Endless stream of image indices, drawn with replacement in proportion to weights.

    All ranks draw the same stream and each takes every ``world_size``-th index of it, as
    Detectron2's samplers do. The stream is a pure function of the seed: position i can be
    reached without drawing what comes before it, and memory is O(N), not O(draws).

    Args:
        weights: ``(N,)``, finite and >= 0, at least one > 0. Need not sum to 1.
        last_weights: ``(N,)``; if given, the probabilities go linearly from those of ``weights`` in
            the first N draws to these in the last N of ``draws``, and stay there: progressively
            balanced sampling (Kang et al., arXiv:1910.09217, Eq. 3, with epochs of N draws).
        draws: of all ranks together, in the whole training; for ``last_weights``.
        seed: >= 0, the same on all ranks (``detectron2.utils.comm.shared_random_seed()``).
        rank: of this process, 0..world_size-1.
        world_size: number of processes.
        start: first position of the common stream; to go on after n draws on each rank, pass
            ``n * world_size``.

    Raises:
        ValueError: names the argument that is out of range.
    """

    def __init__(
        self,
        weights: Sequence[float] | np.ndarray | torch.Tensor,
        *,
        seed: int,
        last_weights: Sequence[float] | np.ndarray | torch.Tensor | None = None,
        draws: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self._weights = _probabilities(weights, name="weights")
        self._last_weights = (
            None if last_weights is None else _probabilities(last_weights, name="last_weights")
        )
        if self._last_weights is not None and self._last_weights.shape != self._weights.shape:
            raise ValueError(
                f"last_weights must have {len(self._weights)} entries as weights has, got "
                f"{len(self._last_weights)}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..world_size-1, got {rank} of {world_size}")
        if seed < 0 or start < 0:
            raise ValueError(f"seed and start must be >= 0, got {seed} and {start}")
        self._seed = int(seed)
        self._rank = rank
        self._world_size = world_size
        self._start = start
        # Each block costs O(N) for the cumulative weights: as many draws keep that O(1) a draw.
        self._block_size = max(1024, self._weights.numel())
        self._num_blocks = -(-draws // self._block_size)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's share of the stream, for ever."""
        return itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        """Yield the stream common to all ranks from position ``start`` on."""
        block, skip = divmod(self._start, self._block_size)
        while True:
            # The generator of torch's CPU looks at 32 bits only; SeedSequence mixes both numbers
            # into them, so that neighbouring seeds and blocks do not give related draws.
            mixed = np.random.SeedSequence((self._seed, block)).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(mixed))
            draws = torch.multinomial(
                self._weights_of(block), self._block_size, replacement=True, generator=generator
            )
            yield from draws[skip:].tolist()
            block, skip = block + 1, 0

    def _weights_of(self, block: int) -> torch.Tensor:
        if self._last_weights is None:
            return self._weights
        progress = min(block / max(self._num_blocks - 1, 1), 1.0)
        return torch.lerp(self._weights, self._last_weights, progress)


class DeferredSampler(Sampler[int]):
    """Sampler that starts with the draws of one endless sampler and goes on with another.

    As both are, a pure function of the seed: deferred resampling (DRS).

    Args:
        before: of the first draws.
        after: of all others.
        num_before: draws of this rank that come from ``before``, at least 0.

    Raises:
        ValueError: if ``num_before`` is negative.
    """

    def __init__(self, before: Sampler[int], after: Sampler[int], *, num_before: int) -> None:
        if num_before < 0:
            raise ValueError(f"num_before must be >= 0, got {num_before}")
        self.before, self.after, self.num_before = before, after, num_before

    def __iter__(self) -> Iterator[int]:
        """Yield indices for ever."""
        yield from itertools.islice(self.before, self.num_before)
        yield from self.after


def _probabilities(
    weights: Sequence[float] | np.ndarray | torch.Tensor, *, name: str
) -> torch.Tensor:
    """Return ``(N,)`` float64 that sum to 1."""
    values = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    valid = values.dim() == 1 and bool(torch.isfinite(values).all() & (values >= 0).all())
    if not valid or not 0 < values.numel() <= _MAX_IMAGES or not values.any():
        raise ValueError(
            f"{name} must be 1 to {_MAX_IMAGES} finite numbers >= 0, at least one above 0, "
            f"got shape {tuple(values.shape)}"
        )
    return values / values.sum()
