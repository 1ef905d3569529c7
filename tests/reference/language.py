"""Token losses, F-scores and diversity as printed: scalars and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def token_losses(
    loss: Callable[[list[float], int], float],
    logits: list[list[list[float]]],
    labels: list[list[int]],
    ignore_index: int,
) -> list[list[float]]:
    """The loss of each token by itself, 0 where ignored."""
    return [
        [0.0 if y == ignore_index else loss(z, y) for z, y in zip(*text)]
        for text in zip(logits, labels)
    ]


def overlap(reference: Sequence[int], generated: Sequence[int]) -> list[int]:
    """Generated tokens that can be crossed out in the reference, each but once."""
    left, found = list(reference), []
    for token in generated:
        if token in left:
            left.remove(token)
            found.append(token)
    return found


def f1(token: int, correct: list[int], predicted: list[int], actual: list[int]) -> float:
    """Harmonic mean of precision and recall of one token."""
    if token not in correct:
        return 0.0
    precision = correct.count(token) / predicted.count(token)
    recall = correct.count(token) / actual.count(token)
    return 2 / (1 / precision + 1 / recall)


def macro_f1(correct: list[int], predicted: list[int], actual: list[int]) -> float:
    occurring = set(predicted) | set(actual)
    return sum(f1(t, correct, predicted, actual) for t in occurring) / len(occurring)


def micro_f1(correct: list[int], predicted: list[int], actual: list[int]) -> float:
    precision, recall = len(correct) / len(predicted), len(correct) / len(actual)
    return 2 / (1 / precision + 1 / recall)


def distinct(texts: list[list[int]], n: int) -> float:
    grams = []
    for text in texts:
        for end in range(n, len(text) + 1):
            grams.append(tuple(text[end - n : end]))
    return len([g for i, g in enumerate(grams) if g not in grams[:i]]) / len(grams)
