"""F-scores of tokens and diversity of generated texts; numpy only.

The Eureka paper (OpenReview 7Yhok3vJpU, Table 4) reports macro and micro F "between the generated
and the reference sentences" and 4-gram diversity without formulas. Here a word is a class:
F is the F1 score of each word (macro: their mean, micro: of the pooled counts), with words
matched by position or, for generated texts, by overlap, as the F1 of ConvAI2 does for one text.
Distinct-n is that of Li et al., arXiv:1510.03055, but divided by the number of n-grams.

Accuracies by word and by frequency group are those of :mod:`.classification_metrics`. All values
are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lt_det.data.stats.token_counts import IGNORE_INDEX


@dataclass(frozen=True)
class TokenMatches:
    """Counts of each token of the vocabulary: predicted, right, and in the reference.

    Those of several batches are added: ``first + second``.

    Attributes:
        correct: ``(V,)`` int64, predictions that match the reference.
        predicted: ``(V,)`` int64, predictions.
        actual: ``(V,)`` int64, occurrences in the reference.
    """

    correct: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray

    def __add__(self, other: TokenMatches) -> TokenMatches:
        return TokenMatches(
            self.correct + other.correct,
            self.predicted + other.predicted,
            self.actual + other.actual,
        )


def position_matches(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    num_tokens: int,
    ignore_index: int | None = IGNORE_INDEX,
) -> TokenMatches:
    """Return the matches of predictions made for each position of the reference.

    Args:
        labels: token ids of any shape.
        predicted: token ids of the same shape.
        num_tokens: V.
        ignore_index: label of the positions that are left out; None leaves out none.

    Raises:
        ValueError: if the shapes differ, or an id is not in ``[0, V)``.
    """
    wanted, found = np.asarray(labels), np.asarray(predicted)
    if wanted.shape != found.shape:
        raise ValueError(
            f"labels and predicted must have one shape, got {wanted.shape} and {found.shape}"
        )
    keep = wanted != ignore_index
    wanted, found = _checked(wanted[keep], num_tokens), _checked(found[keep], num_tokens)
    correct = wanted[wanted == found]
    counts = (np.bincount(ids, minlength=num_tokens) for ids in (correct, found, wanted))
    return TokenMatches(*counts)


def text_matches(
    references: Sequence[ArrayLike], generated: Sequence[ArrayLike], *, num_tokens: int
) -> TokenMatches:
    """Return the matches of texts, wherever in the text a token stands.

    A token that is r times in the reference and g times in the generated text matches
    ``min(r, g)`` times.

    Args:
        references: texts of token ids, without padding.
        generated: one text for each of them.
        num_tokens: V.

    Raises:
        ValueError: if there are not as many texts as references, or an id is not in ``[0, V)``.
    """
    if len(references) != len(generated):
        raise ValueError(
            f"generated must have one text for each of the {len(references)} references, "
            f"got {len(generated)}"
        )
    wanted, num_wanted = _ids_by_text(references, num_tokens)
    found, num_found = _ids_by_text(generated, num_tokens)
    both, at_wanted, at_found = np.intersect1d(
        wanted, found, assume_unique=True, return_indices=True
    )
    matched = np.minimum(num_wanted[at_wanted], num_found[at_found])
    parts = ((both, matched), (found, num_found), (wanted, num_wanted))
    counts = (
        np.bincount(keys % num_tokens, weights=numbers, minlength=num_tokens).astype(np.int64)
        for keys, numbers in parts
    )
    return TokenMatches(*counts)


def macro_f1(matches: TokenMatches, members: np.ndarray | None = None) -> float:
    """Return the mean over tokens of ``2 correct / (predicted + actual)``.

    Tokens that are neither predicted nor in the reference are left out, as scikit-learn does;
    NaN if none is left.

    Args:
        matches: of all texts.
        members: token ids to average over, such as a frequency group; None takes all.
    """
    chosen = np.arange(len(matches.actual)) if members is None else members
    occurrences = (matches.predicted + matches.actual)[chosen]
    occurs = occurrences > 0
    if not occurs.any():
        return float("nan")
    return float((2 * matches.correct[chosen][occurs] / occurrences[occurs]).mean())


def micro_f1(matches: TokenMatches) -> float:
    """Return ``2 sum(correct) / (sum(predicted) + sum(actual))``; NaN without tokens.

    For :func:`position_matches` that is the accuracy.

    Args:
        matches: of all texts.
    """
    occurrences = matches.predicted.sum() + matches.actual.sum()
    return float(2 * matches.correct.sum() / occurrences) if occurrences else float("nan")


def distinct_n(texts: Iterable[ArrayLike], *, n: int = 4) -> float:
    """Return the number of different n-grams of all texts, divided by that of all n-grams.

    An n-gram lies within one text. Li et al. divide by the number of tokens instead. The value
    falls with the amount of text: compare equal amounts only.

    Args:
        texts: texts of token ids or words, without padding.
        n: length of the n-grams.

    Returns:
        In (0, 1]; NaN if no text has n tokens.

    Raises:
        ValueError: if ``n`` is below 1, or a text is not a sequence of tokens.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    total = 0
    different = set()
    for text in texts:
        tokens = np.asarray(text)
        if tokens.ndim != 1:
            raise ValueError(f"a text must be a sequence of tokens, got {text!r}")
        words = tokens.tolist()
        grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
        total += len(grams)
        different.update(grams)
    return len(different) / total if total else float("nan")


def _ids_by_text(texts: Sequence[ArrayLike], num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``text number * V + id``, each once and ascending, and how often it occurs."""
    arrays = [_checked(np.asarray(text), num_tokens) for text in texts]
    numbers = np.repeat(np.arange(len(arrays)), [len(ids) for ids in arrays])
    ids = np.concatenate([np.zeros(0, np.int64), *arrays])
    return np.unique(numbers * num_tokens + ids, return_counts=True)


def _checked(ids: np.ndarray, num_tokens: int) -> np.ndarray:
    # An empty list becomes an array of floats.
    ids = ids.astype(np.int64) if not ids.size else ids
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"token ids must be integers, got {ids.dtype}")
    outside = ids[(ids < 0) | (ids >= num_tokens)]
    if outside.size:
        raise ValueError(
            f"token ids must be in [0, {num_tokens}), not so for {outside.size} of them, "
            f"first {outside[:5].tolist()}"
        )
    return ids
