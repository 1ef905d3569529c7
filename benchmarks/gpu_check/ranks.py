"""One process in a group of NCCL (gloo on a CPU): sums over ranks, DDP, a training in it."""

from __future__ import annotations

import copy
import os
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gpu_check.device import DEVICE, compare
from gpu_check.results import Results
from gpu_check.training import settings, train
from lt_det.engine import trainer as trainer_module
from lt_det.meta import ranks


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    backend = "nccl" if DEVICE == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LT_DET_CACHE"] = str(folder / "cache")
        dist.init_process_group(backend, init_method=f"file://{name}/group", rank=0, world_size=1)
        # Versions of Detectron2 without a local group of their own find one here.
        if getattr(comm, "_LOCAL_PROCESS_GROUP", 0) is None:
            comm._LOCAL_PROCESS_GROUP = dist.new_group([0])
        try:
            results.check(f"{backend}: sums and means over ranks", sums)
            results.check(f"{backend}: objects are gathered", gathered)
            results.check(f"{backend}: gradients of DDP", ddp)
            results.check(f"{backend}: stage 1 in DDP", partial(training, folder))
        finally:
            dist.destroy_process_group()


def sums() -> str:
    values = torch.arange(5.0, device=DEVICE)
    found = [values.clone(), values.clone()]
    # As with two, so that it communicates.
    with mock.patch.object(ranks, "num_ranks", return_value=2):
        ranks.sum_over_ranks(found[:1])
        ranks.average_over_ranks(found[1:])
    return compare([values, values / 2], found, tolerance=0.0)


def gathered() -> str:
    found: list = [None]
    dist.all_gather_object(found, {"a": torch.ones(2)})
    assert torch.equal(found[0]["a"].cpu(), torch.ones(2))
    return "a tensor in a dict"


def wrapped(module: nn.Module) -> nn.Module:
    """Return the module in DDP, which the trainer leaves out for one process."""
    devices = None if DEVICE == "cpu" else [torch.cuda.current_device()]
    return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


def ddp() -> str:
    torch.manual_seed(0)
    plain = nn.Linear(8, 4).to(DEVICE)
    parallel = wrapped(copy.deepcopy(plain))
    x = torch.randn(16, 8, device=DEVICE)
    for module in (plain, parallel):
        module(x).square().sum().backward()
    gradients = [[p.grad for p in module.parameters()] for module in (plain, parallel)]
    return compare(*gradients, tolerance=1e-6)


def training(folder: Path) -> str:
    cfg = settings(folder, "ranks", LT_DET__LOSS="balanced_softmax")
    with mock.patch.object(trainer_module, "wrap_ddp", wrapped):
        return train(cfg)
