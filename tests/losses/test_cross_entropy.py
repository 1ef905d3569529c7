from __future__ import annotations

import torch
from torch.nn import functional as F

from lt_det.losses import sigmoid_ce_loss, softmax_ce_loss
from tests.reference import losses as reference


def test_softmax_equals_the_written_formula():
    logits, labels = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 5
    expected = [reference.softmax_ce(z, y) for z, y in zip(logits.tolist(), labels.tolist())]
    torch.testing.assert_close(softmax_ce_loss(logits, labels).tolist(), expected)


def test_sigmoid_equals_the_written_formula():
    logits = torch.randn(6, 3, dtype=torch.float64)
    targets = (torch.rand(6, 3) > 0.5).double()
    expected = [
        [reference.sigmoid_ce(z, t) for z, t in zip(*rows)]
        for rows in zip(logits.tolist(), targets.tolist())
    ]
    torch.testing.assert_close(sigmoid_ce_loss(logits, targets), torch.tensor(expected).double())


def test_mean_is_torch_s_to_the_last_bit():
    logits, labels = torch.randn(512, 81), torch.randint(0, 81, (512,))
    ours = softmax_ce_loss(logits, labels, reduction="mean")
    assert torch.equal(ours, F.cross_entropy(logits, labels))
