#!/usr/bin/env python
"""Train a small LSTM to write dictionary entries with one loss or several, and compare them.

python examples/language/train.py                                  cross-entropy and Eureka
python examples/language/train.py --loss softmax_ce balanced_softmax:tau=0.25 --seeds 0 1 2

The texts are the names and definitions of 21,844 WordNet nouns that timm ships. ``--pairs`` reads
others: a line for each, a prompt, a tab and the reply, as in a dialogue.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.data.stats.token_counts import IGNORE_INDEX, count_tokens
from lt_det.evaluation.classification.language_metrics import (
    distinct_n,
    macro_f1,
    micro_f1,
    text_matches,
)
from lt_det.evaluation.classification.metrics import class_accuracies, mean_accuracy
from lt_det.losses import softmax_ce_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.tokens import token_loss
from lt_det.report.runs import spread

#: No text has such words: words_of() takes them apart.
END, REPLY, UNKNOWN = "<end>", "<reply>", "<unknown>"
DEFAULT_LOSSES = ["softmax_ce", "softmax_eureka:beta=0.999"]
MAX_REPLY = 20
BATCH_SIZE = 32
#: of which every tenth is a test
FEWEST_PAIRS = 20


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--loss",
        nargs="+",
        default=DEFAULT_LOSSES,
        metavar="NAME[:KEY=VALUE,...]",
        help="rows of the loss table with their parameters; defer=EPOCHS trains with cross-entropy "
        "for so long before",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="prompt, tab, reply a line")
    parser.add_argument(
        "--limit", type=int, default=3000, help="pairs used, the first ones; 0: all"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=96, help="width of the LSTM")
    parser.add_argument("--samples", type=int, default=3, help="texts printed for each loss")
    args = parser.parse_args(arguments)
    twice = [loss for loss, count in Counter(args.loss).items() if count > 1]
    if twice:
        parser.error(f"--loss names {', '.join(twice)} twice; for several trainings use --seeds")
    return args


def read_pairs(path: Path | None, *, limit: int) -> list[tuple[str, str]]:
    """Return prompts and replies, each reply once, so that no test reply was trained on."""
    if path is None:
        timm = find_spec("timm")
        if timm is None or not timm.submodule_search_locations:
            raise SystemExit("the texts are in timm: pip install timm, or pass --pairs FILE")
        folder = Path(timm.submodule_search_locations[0]) / "data" / "_info"
        names, definitions = (
            [line.partition("\t")[2] for line in (folder / file).read_text("utf-8").splitlines()]
            for file in ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")
        )
        pairs = list(zip(names, definitions))
    else:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(
                f"--pairs {path} cannot be read as a text in UTF-8: {error}"
            ) from error
        pairs = [
            (prompt, reply) for prompt, tab, reply in (s.partition("\t") for s in lines) if tab
        ]
    first_prompts: dict[str, str] = {}
    for prompt, reply in pairs:
        first_prompts.setdefault(reply, prompt)
    return [(prompt, reply) for reply, prompt in first_prompts.items()][: limit or None]


def words_of(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def known_words(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return the words that occur at least twice, from frequent to rare, then by the alphabet."""
    counts = Counter(word for text in texts for word in text)
    return sorted((w for w, n in counts.items() if n > 1), key=lambda w: (-counts[w], w))


@dataclass(frozen=True)
class Corpus:
    """Texts as ids: the K words that a model may say, and after them what it only reads.

    A word seen once in training is "unknown": it is read as one sign and is no label.

    Attributes:
        words: K words of the training replies, END first, then from frequent to rare.
        signs: the sign between prompt and reply, the unknown word, then words of prompts only.
        train: prompts and replies; a reply ends with END.
        test: every tenth pair.
    """

    words: tuple[str, ...]
    signs: tuple[str, ...]
    train: list[tuple[list[int], list[int]]]
    test: list[tuple[list[int], list[int]]]

    @property
    def start(self) -> int:
        """Id of the sign between prompt and reply."""
        return len(self.words)

    @property
    def num_inputs(self) -> int:
        """Number of different ids."""
        return len(self.words) + len(self.signs)

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[str, str]]) -> Corpus:
        """Return the corpus of prompts and replies; of these the first MAX_REPLY words."""
        split = [(words_of(prompt), [*words_of(reply)[:MAX_REPLY], END]) for prompt, reply in pairs]
        train = [pair for i, pair in enumerate(split) if i % 10]
        said = known_words(reply for _, reply in train)
        read = known_words(prompt for prompt, _ in train)
        words = (END, *(word for word in said if word != END))
        known = set(words)
        signs = (REPLY, UNKNOWN, *(word for word in read if word not in known))
        ids = {word: i for i, word in enumerate((*words, *signs))}
        unknown = len(words) + 1
        encoded = [
            ([ids.get(w, unknown) for w in prompt], [ids.get(w, unknown) for w in reply])
            for prompt, reply in split
        ]
        return cls(words, signs, [p for i, p in enumerate(encoded) if i % 10], encoded[::10])

    def batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        """Return inputs and labels ``(B, T)``: each label is the input of the next position.

        Prompts, unknown words and padding have the label IGNORE_INDEX.
        """
        length = max(len(prompt) + len(reply) for prompt, reply in pairs)
        inputs = torch.zeros(len(pairs), length, dtype=torch.int64)
        labels = torch.full((len(pairs), length), IGNORE_INDEX)
        for row, (prompt, reply) in enumerate(pairs):
            end = len(prompt) + len(reply)
            inputs[row, :end] = torch.tensor([*prompt, self.start, *reply[:-1]])
            labels[row, len(prompt) : end] = torch.tensor(reply)
        labels[labels >= len(self.words)] = IGNORE_INDEX
        return inputs, labels

    def batches(
        self, pairs: Sequence[tuple[list[int], list[int]]], order: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of texts of similar length, in the order of the first of each."""
        place = {index: i for i, index in enumerate(order)}
        by_length = sorted(order, key=lambda i: (sum(map(len, pairs[i])), place[i]))
        chunks = [by_length[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
        for chunk in sorted(chunks, key=lambda chunk: place[chunk[0]]):
            yield self.batch([pairs[i] for i in chunk])

    def text(self, ids: Sequence[int]) -> str:
        """Return words for ids."""
        return " ".join((*self.words, *self.signs)[i] for i in ids)


class LanguageModel(nn.Module):
    """One LSTM layer; ids ``(B, T)`` to logits ``(B, T, K)`` of the next word."""

    def __init__(self, num_inputs: int, num_words: int, *, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_inputs, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(hidden, num_words)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return logits and the LSTM's state."""
        features, state = self.lstm(self.dropout(self.embedding(inputs)), state)
        return self.classifier(self.dropout(features)), state


def build_loss(
    text: str, stats: ClassStats, *, steps_per_epoch: int, step: Callable[[], int]
) -> BaseCriterion:
    """Return the criterion that ``NAME[:KEY=VALUE,...]`` describes.

    Raises:
        ValueError: if it has another form, the loss has no such parameter, or its value is out of
            range.
    """
    name, _, rest = text.partition(":")
    parts = [part.partition("=") for part in rest.split(",") if part]
    for key, sign, value in parts:
        if not (key and sign and value):
            raise ValueError(
                f"--loss must be NAME:KEY=VALUE,... such as softmax_eureka:beta=0.999, got {text!r}"
            )
    parameters = {key: value for key, _, value in parts}
    defer = float(parameters.pop("defer", 0))
    criterion = Criterion(
        name,
        class_counts=torch.from_numpy(stats.counts()),
        num_images=stats.num_images,
        **{key: _value(value) for key, value in parameters.items()},
    )
    if not defer:
        return criterion
    return DeferredCriterion(
        Criterion("softmax_ce"),
        criterion,
        start_iteration=round(defer * steps_per_epoch),
        current_iteration=step,
    )


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def statistics(corpus: Corpus) -> ClassStats:
    """Return how often each word is a label in training."""
    order = range(len(corpus.train))
    labels = (labels for _, labels in corpus.batches(corpus.train, order))
    return count_tokens(labels, corpus.words, name="training replies")


def train(
    corpus: Corpus, loss: str, *, seed: int, epochs: int, hidden: int
) -> tuple[LanguageModel, list[float]]:
    """Return a trained model and the mean loss of each epoch, in nats."""
    torch.manual_seed(seed)
    model = LanguageModel(corpus.num_inputs, len(corpus.words), hidden=hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps = math.ceil(len(corpus.train) / BATCH_SIZE)
    losses: list[float] = []
    criterion = build_loss(
        loss, statistics(corpus), steps_per_epoch=steps, step=lambda: len(losses)
    )
    title = f"{loss}, seed {seed}"
    with tqdm(total=epochs * steps, desc=title, unit="step", disable=None) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(corpus.train)).tolist()
            for inputs, labels in corpus.batches(corpus.train, order):
                logits, _ = model(inputs)
                value = token_loss(criterion, logits, labels, reduction="mean")
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                losses.append(value.item())
                bar.update()
            bar.set_postfix(loss=f"{np.mean(losses[-steps:]):.2f}")
    return model.eval(), np.reshape(losses, (epochs, steps)).mean(axis=1).tolist()


@torch.no_grad()
def generate(
    model: LanguageModel, corpus: Corpus, prompts: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the most probable words after each prompt, up to END or MAX_REPLY words."""
    replies: list[list[int]] = [[] for _ in prompts]
    of_length = defaultdict(list)
    for index, prompt in enumerate(prompts):
        of_length[len(prompt)].append(index)
    for indices in of_length.values():
        words = torch.tensor([[*prompts[i], corpus.start] for i in indices])
        said, state = [], None
        for _ in range(MAX_REPLY):
            logits, state = model(words, state)
            words = logits[:, -1:].argmax(dim=2)
            said.append(words)
        for index, row in zip(indices, torch.cat(said, dim=1).tolist()):
            # END has id 0.
            replies[index] = row[: row.index(0)] if 0 in row else row
    return replies


@torch.no_grad()
def evaluate(
    model: LanguageModel, corpus: Corpus, stats: ClassStats
) -> tuple[dict[str, float], list[list[int]]]:
    """Return the metrics on the test texts and the replies.

    In percent, but for the perplexity and the length, words of a reply.
    """
    nats, labels, predicted = 0.0, [], []
    for inputs, wanted in corpus.batches(corpus.test, range(len(corpus.test))):
        logits, _ = model(inputs)
        nats += token_loss(softmax_ce_loss, logits, wanted, reduction="sum").item()
        keep = wanted != IGNORE_INDEX
        labels.append(wanted[keep].numpy())
        predicted.append(logits.argmax(dim=2)[keep].numpy())
    wanted_words, found_words = np.concatenate(labels), np.concatenate(predicted)
    recalls = class_accuracies(wanted_words, found_words, num_classes=stats.num_classes)
    replies = generate(model, corpus, [prompt for prompt, _ in corpus.test])
    references = [reply[:-1] for _, reply in corpus.test]
    matches = text_matches(references, replies, num_tokens=corpus.num_inputs)
    fractions = {
        "macro F": macro_f1(matches),
        "micro F": micro_f1(matches),
        "distinct-4": distinct_n(replies),
        "next word": float((wanted_words == found_words).mean()),
        **{
            GROUP_NAMES[group]: mean_accuracy(recalls, members)
            for group, members in stats.group_members().items()
        },
    }
    metrics = {
        "perplexity": math.exp(nats / len(wanted_words)),
        **{name: 100 * value for name, value in fractions.items()},
        "length": float(np.mean([len(reply) for reply in replies])),
    }
    return metrics, replies


def main(arguments: list[str] | None = None) -> dict[str, list[dict[str, float]]]:
    """Train, evaluate and print; return the metrics of each loss, one dict a seed."""
    args = parse_arguments(arguments)
    torch.set_num_threads(1)
    pairs = read_pairs(args.pairs, limit=args.limit)
    if len(pairs) < FEWEST_PAIRS:
        raise SystemExit(
            f"{args.pairs or 'the texts'}, --limit {args.limit}: {len(pairs)} different replies "
            f"(a line each: prompt, tab, reply), but at least {FEWEST_PAIRS} are needed"
        )
    corpus = Corpus.of_pairs(pairs)
    stats = statistics(corpus)
    kinds = {}
    for loss in args.loss:  # a misspelt one is found before the first is trained
        try:
            kinds[loss] = build_loss(loss, stats, steps_per_epoch=1, step=lambda: 0).kind
        except (ValueError, TypeError, KeyError) as error:
            raise SystemExit(f"--loss {loss}: {error.args[0]}") from error
    sizes = ", ".join(f"{len(ids)} {GROUP_NAMES[g]}" for g, ids in stats.group_members().items())
    print(
        f"{len(corpus.train)} texts to train on, {len(corpus.test)} to test; {stats.num_images} "
        f"words to learn, {stats.num_classes} different ({sizes})\n"
    )
    results: dict[str, list[dict[str, float]]] = {loss: [] for loss in args.loss}
    for seed in args.seeds:
        for loss in args.loss:
            model, _ = train(corpus, loss, seed=seed, epochs=args.epochs, hidden=args.hidden)
            metrics, replies = evaluate(model, corpus, stats)
            if kinds[loss] == "sigmoid":  # no distribution over the words
                metrics["perplexity"] = math.nan
            results[loss].append(metrics)
            print(
                f"{loss}, seed {seed}: "
                + ", ".join(f"{name} {spread([x], digits=2)}" for name, x in metrics.items())
            )
            for (prompt, reply), said in list(zip(corpus.test, replies))[: args.samples]:
                print(f"  {corpus.text(prompt)}: {corpus.text(said)}")
                print(f"    reference: {corpus.text(reply[:-1])}")
    columns = list(results[args.loss[0]][0])
    rows = [
        [loss, *(spread([run[name] for run in runs], digits=2) for name in columns)]
        for loss, runs in results.items()
    ]
    references = distinct_n([reply[:-1] for _, reply in corpus.test])
    print("\n" + tabulate(rows, ["loss", *columns], tablefmt="github", disable_numparse=True))
    print(f"\ndistinct-4 of the references: {100 * references:.2f}")
    return results


if __name__ == "__main__":
    main()
