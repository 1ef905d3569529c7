"""Measure how long the parts of a balance take on this machine, with a few images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.data import DatasetMapper
from torch import nn

from lt_det.balancing.dense_replay import DenseReplay
from lt_det.balancing.frozen_images import frozen_image
from lt_det.balancing.plan import Rates
from lt_det.balancing.replay import PostProcessing, Replay
from lt_det.engine.regions.store import DTYPES
from lt_det.engine.regions.tap import frozen_regions

_IMAGES = 3
# Seconds of an iteration beside the products of matrices: reading, the loss, the optimizer.
_OVERHEAD = 0.004


def measured_rates(
    cfg: Any,
    model: nn.Module,
    test_dicts: Sequence[dict],
    train_dicts: Sequence[dict],
    settings: Sequence[PostProcessing],
) -> tuple[Rates, int]:
    """Return the rates, and how many regions a test image has.

    Args:
        cfg: config.
        model: the detector; not changed.
        test_dicts: data set dicts.
        train_dicts: likewise.
        settings: limits that a candidate is evaluated with.
    """
    test, train = (DatasetMapper(cfg, is_train=flag) for flag in (False, True))
    model.eval()
    frozen = frozen_image(model, test(test_dicts[0]))[0]
    test_image = _seconds(lambda i: frozen_image(model, test(test_dicts[i])), len(test_dicts))
    replay = Replay(model)
    own = replay.own_classifiers()
    seconds = _seconds(lambda _: replay.image(frozen)(own, settings), _IMAGES)
    trained = copy.deepcopy(model).train()
    train_image = _seconds(
        lambda i: frozen_regions(trained, [train(train_dicts[i])]), len(train_dicts)
    )
    rows = cfg.SOLVER.IMS_PER_BATCH * cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    iteration = sum(
        _seconds(_product(rows, weight, str(cfg.MODEL.DEVICE)), _IMAGES) for weight, _ in own
    )
    rates = Rates(test_image, train_image, seconds / len(settings), _OVERHEAD + iteration)
    return rates, len(frozen.boxes[-1])


def dense_rates(
    cfg: Any, replay: DenseReplay, test_dicts: Sequence[dict], settings: Sequence[PostProcessing]
) -> Rates:
    """Return the rates of a dense detector, as :func:`measured_rates`; nothing is trained."""
    test = DatasetMapper(cfg, is_train=False)
    detections = replay.image(test(test_dicts[0]))
    own = replay.own_classifiers()
    return Rates(
        test_image=_seconds(lambda i: replay.image(test(test_dicts[i])), len(test_dicts)),
        train_image=0.0,
        replay=_seconds(lambda _: detections(own, settings), _IMAGES) / len(settings),
        iteration=0.0,
    )


def bytes_of_region(model: nn.Module, *, dtype: str) -> int:
    """Return the bytes that a region takes on disk, over all stages."""
    item = torch.zeros(0, dtype=DTYPES[dtype]).element_size()
    weights = [weight for weight, _ in Replay(model).own_classifiers()]
    return sum(weight.shape[1] * item + 4 for weight in weights)


def _product(rows: int, weight: torch.Tensor, device: str) -> Callable[[int], Any]:
    layer = nn.Linear(weight.shape[1], len(weight)).to(device)
    features = torch.randn(rows, weight.shape[1], device=device)

    def step(_: int) -> None:
        layer(features).logsumexp(dim=1).mean().backward()
        if features.is_cuda:
            torch.cuda.synchronize()

    return step


def _seconds(call: Callable[[int], Any], number: int) -> float:
    """Return the median of a few calls: the first warms up, others work on the machine."""
    taken = []
    for i in range(min(_IMAGES, number)):
        started = time.perf_counter()
        call(i)
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]
