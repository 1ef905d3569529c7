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
from lt_det.balancing.image_replay import ImageReplay
from lt_det.balancing.plan import Rates
from lt_det.balancing.replay import PostProcessing, Replay
from lt_det.engine.regions.store import DTYPES
from lt_det.engine.regions.tap import frozen_regions
from lt_det.tasks import build_task

_IMAGES = 3
# Images to classify that one measurement takes.
_BATCH = 64
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


def image_rates(
    cfg: Any,
    model: Any,
    replay: ImageReplay,
    mapper: Callable[[Any], Any],
    test_dicts: Sequence[dict],
    train_dicts: Sequence[dict],
) -> Rates:
    """Return the rates of an image classifier, measured with small batches.

    Args:
        cfg: config.
        model: the classifier, in evaluation mode; not changed.
        replay: of it.
        mapper: of test images.
        test_dicts: data set dicts.
        train_dicts: likewise.
    """
    test, train = (list(dicts[:_BATCH]) for dicts in (test_dicts, train_dicts))

    @torch.no_grad()
    def features(_: int) -> torch.Tensor:
        return model.features(model.images(mapper(test))).float().cpu()

    own, of_batch = replay.own_classifiers(), features(0)
    trained = copy.deepcopy(model).train()
    train_mapper = build_task(cfg).build_mapper(cfg, is_train=True)
    test_image = _seconds(features, _IMAGES) / len(test)
    return Rates(
        test_image=test_image,
        train_image=cfg.LT_DET.REGION_CACHE.EPOCHS
        * _seconds(lambda _: frozen_regions(trained, train_mapper(train)), _IMAGES)
        / len(train),
        replay=_seconds(lambda _: replay.scores(of_batch, own), _IMAGES) / len(test),
        iteration=_OVERHEAD
        + _seconds(_product(cfg.SOLVER.IMS_PER_BATCH, own[0][0], str(cfg.MODEL.DEVICE)), _IMAGES),
        whole_image=test_image,
    )


@torch.no_grad()
def whole_image(cfg: Any, model: nn.Module, test_dicts: Sequence[dict]) -> float:
    """Return the seconds of a whole detector, masks included, for one test image."""
    test = DatasetMapper(cfg, is_train=False)
    return _seconds(lambda i: model([test(test_dicts[i])]), len(test_dicts))


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
