"""Count the tokens of a vocabulary in the training texts of a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lt_det.data.annotations.checks import NUM_NAMED
from lt_det.data.stats.class_stats import ClassStats

IGNORE_INDEX = -100
"""Label of positions without a loss, as in PyTorch."""


def count_tokens(
    labels: Iterable[ArrayLike],
    token_names: Sequence[str],
    *,
    name: str,
    ignore_index: int | None = IGNORE_INDEX,
) -> ClassStats:
    """Return the statistics of the tokens that a model learns to predict.

    A token is to a language model what an image is to a classifier. So image and instance counts
    are the same, ``num_images`` is the number of tokens, and the frequency groups are by
    occurrences. A token that never occurs has count 0; :meth:`ClassStats.counts` makes it 1.

    Args:
        labels: sequences or batches of token ids, of any shape: what the loss gets as labels.
        token_names: V different names, in the order of the ids.
        name: data set, for messages.
        ignore_index: id that is not counted, such as padding; None counts all.

    Raises:
        ValueError: if there is no token to count, or one is not a whole number in ``[0, V)``;
            names the sequences.
    """
    counts = np.zeros(len(token_names), dtype=np.int64)
    bad: list[str] = []
    for index, sequence in enumerate(labels):
        ids = np.asarray(sequence).ravel()
        if ids.size and not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"texts {name!r}: token ids must be integers, got {ids.dtype}")
        ids = ids.astype(np.int64)
        ids = ids[ids != ignore_index]
        outside = ids[(ids < 0) | (ids >= len(counts))]
        if outside.size:
            bad.append(f"sequence {index}: {int(outside[0])}")
        else:
            np.add.at(counts, ids, 1)
    if bad:
        raise ValueError(
            f"texts {name!r}: token ids must be in 0..{len(counts) - 1} or ignore_index "
            f"({ignore_index}), not so in {len(bad)} sequences, first {bad[:NUM_NAMED]}"
        )
    if not counts.sum():
        raise ValueError(f"texts {name!r}: there is no token to count")
    occurrences = tuple(counts.tolist())
    return ClassStats(
        name=name,
        class_names=tuple(token_names),
        image_counts=occurrences,
        instance_counts=occurrences,
        num_images=int(counts.sum()),
        source="annotations",
    )
