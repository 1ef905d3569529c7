"""The language example: what is a label, what is said, and that it learns."""

from __future__ import annotations

import math
import re
import runpy
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.reference import language as reference

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = runpy.run_path(str(ROOT / "examples" / "language" / "train.py"))
Corpus = EXAMPLE["Corpus"]
PAIRS = [
    ("test", "a first text"),
    ("tabby cat", "a cat ; a pet"),
    ("tabby", "a pet cat, it never barks"),
    ("dog", "A pet"),
]
IGNORED = -100


def test_labels_are_the_next_words_of_the_reply():
    corpus = Corpus.of_pairs(PAIRS)
    assert corpus.words == ("<end>", "a", "pet", "cat")
    assert corpus.signs == ("<reply>", "<unknown>", "tabby")
    assert corpus.text(corpus.test[0][1]) == "a <unknown> <unknown> <end>"
    end, a, pet, cat, reply, unknown, tabby = range(corpus.num_inputs)
    padding = 0
    inputs, labels = corpus.batch(corpus.train[:2])
    assert inputs.tolist() == [
        [tabby, cat, reply, a, cat, unknown, a, pet, padding],
        [tabby, reply, a, pet, cat, unknown, unknown, unknown, unknown],
    ]
    assert labels.tolist() == [
        [IGNORED, IGNORED, a, cat, IGNORED, a, pet, end, IGNORED],
        [IGNORED, a, pet, cat, IGNORED, IGNORED, IGNORED, IGNORED, end],
    ]
    assert EXAMPLE["statistics"](corpus).instance_counts == (3, 4, 3, 2)


def test_batches_hold_each_text_once():
    corpus = Corpus.of_pairs(PAIRS * 30)
    order = torch.randperm(len(corpus.train)).tolist()
    batches = list(corpus.batches(corpus.train, order))
    assert [len(inputs) for inputs, _ in batches].count(32) == len(batches) - 1
    said = Counter(tuple(row[row != IGNORED].tolist()) for _, labels in batches for row in labels)
    wanted = Counter(tuple(i for i in r if i < len(corpus.words)) for _, r in corpus.train)
    assert said == wanted


def test_each_reply_is_there_once(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("one\ta\nno tab\ntwo\tb\nthree\ta\nfour\tc\tc\n", encoding="utf-8")
    pairs = [("one", "a"), ("two", "b"), ("four", "c\tc")]
    assert EXAMPLE["read_pairs"](path, limit=0) == pairs
    assert EXAMPLE["read_pairs"](path, limit=2) == pairs[:2]


class Countdown:
    """A model that says the id below the last one, and below the sign for a reply the prompt's."""

    def __call__(self, words, state):
        last = words[:, 0] if state is None else words[:, -1]
        return F.one_hot((last - 1).clamp(min=0), 9)[:, None].float(), True


def test_generated_words_go_with_their_prompts_and_stop_at_the_end():
    corpus = Corpus.of_pairs(PAIRS)
    prompts = [[4, 8], [2], [1, 1], [8]]
    replies = EXAMPLE["generate"](Countdown(), corpus, prompts)
    assert replies == [[3, 2, 1], [1], [], [7, 6, 5, 4, 3, 2, 1]]


@pytest.fixture(scope="module")
def corpus():
    if find_spec("timm") is None:
        pytest.skip("timm is not installed; its texts are the example's")
    return Corpus.of_pairs(EXAMPLE["read_pairs"](None, limit=300))


def train(corpus, loss: str, *, epochs: int):
    return EXAMPLE["train"](corpus, loss, seed=0, epochs=epochs, hidden=32)


def test_learns_more_than_word_frequencies_and_balanced_softmax_the_rare_words(corpus):
    stats = EXAMPLE["statistics"](corpus)
    shares = np.array(stats.image_counts) / stats.num_images
    entropy = -(shares * np.log(shares)).sum()
    results = {}
    for loss in ("softmax_ce", "balanced_softmax"):
        model, means = train(corpus, loss, epochs=10)
        results[loss], replies = EXAMPLE["evaluate"](model, corpus, stats)
        assert means[-1] < entropy - 0.5
    ce, balanced = results["softmax_ce"], results["balanced_softmax"]
    # Words that were not trained on: far from one of them, as if the labels were the inputs.
    assert 10 < ce["perplexity"] < math.exp(entropy - 0.5)
    assert ce["perplexity"] < balanced["perplexity"]
    assert ce["rare"] + 5 < balanced["rare"]
    assert ce["frequent"] > balanced["frequent"] + 10
    assert len(replies) == len(corpus.test) == 30
    assert balanced["length"] == pytest.approx(np.mean([len(reply) for reply in replies]))
    pairs = [(wanted[:-1], said) for (_, wanted), said in zip(corpus.test, replies)]
    correct = sum(len(reference.overlap(*pair)) for pair in pairs)
    words = sum(len(text) for pair in pairs for text in pair)
    assert balanced["micro F"] == pytest.approx(100 * 2 * correct / words)


def test_a_deferred_loss_is_cross_entropy_before(corpus):
    ce = train(corpus, "softmax_ce", epochs=2)[1]
    deferred = train(corpus, "softmax_eureka:beta=0,defer=1", epochs=2)[1]
    at_once = train(corpus, "softmax_eureka:beta=0", epochs=2)[1]
    assert deferred[0] == ce[0] != at_once[0]
    assert deferred[1] < ce[1]


def test_the_program_prints_a_row_for_each_loss(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{p} {i}\t{r} {i}\n" for i in range(6) for p, r in PAIRS))
    arguments = f"--pairs {path} --epochs 1 --hidden 4 --seeds 0 1 --loss softmax_ce ldam:scale=1"
    results = EXAMPLE["main"](arguments.split())
    assert [len(runs) for runs in results.values()] == [2, 2]
    table = capsys.readouterr().out
    assert re.search(r"^\| softmax_ce +\| [\d.]+ ± [\d.]+ +\|", table, re.M)
    assert re.search(r"^\| ldam:scale=1 +\| [\d.]+ ± [\d.]+ +\|", table, re.M)
    assert "distinct-4 of the references" in table
    with pytest.raises(SystemExit, match="--loss softmax_focal:gama=2: .*has no parameter"):
        EXAMPLE["main"]([*arguments.split(), "softmax_focal:gama=2"])
    with pytest.raises(SystemExit, match="--loss softmax_eureka:beta: .*NAME:KEY=VALUE"):
        EXAMPLE["main"]([*arguments.split(), "focal", "softmax_eureka:beta"])
    with pytest.raises(SystemExit):
        EXAMPLE["main"]([*arguments.split(), "softmax_ce"])
    said = capsys.readouterr()
    assert "seed 0" not in said.out
    assert "--loss names softmax_ce twice" in said.err
    EXAMPLE["main"]([*arguments.split()[:-2], "focal"])
    said = capsys.readouterr().out
    assert re.search(r"^focal, seed 0: perplexity –, macro F \d", said, re.M)
    assert re.search(r"^\| focal +\| – +\| \d", said, re.M)


def test_pairs_that_are_no_texts(tmp_path):
    path = tmp_path / "pairs.tsv"
    with pytest.raises(SystemExit, match="pairs.tsv cannot be read .* No such file"):
        EXAMPLE["main"](["--pairs", str(path)])
    path.write_bytes(b"a\t\xff\n")
    with pytest.raises(SystemExit, match="cannot be read as a text in UTF-8"):
        EXAMPLE["main"](["--pairs", str(path)])
    path.write_text("".join(f"{i}\treply {i}\n" for i in range(19)))
    with pytest.raises(SystemExit, match="pairs.tsv, --limit 3000: 19 different replies"):
        EXAMPLE["main"](["--pairs", str(path)])


def test_the_page_runs():
    page = (ROOT / "docs" / "how-to" / "language.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.S).group(1), names)
    assert names["stats"].instance_counts == (2, 2, 1, 1, 1)
    # All words alike: log 5 and the bonus log(4/5), weighed by the effective number.
    numbers = (1 - 0.999 ** np.array([2.0, 2, 1, 1, 1])) / (1 - 0.999)
    weights = 1 / numbers / (1 / numbers).mean()
    said = weights[[1, 2, 4, 0, 1, 3, 0]]
    expected = math.log(5) + said.mean() * math.log(0.8)
    assert names["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert names["logits"].grad[1, 3].tolist() == [0.0] * 5
