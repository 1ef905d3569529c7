"""A model made ready to be trained: with class counts, on all processes."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lt_det.data.class_stats import ClassStats, Unit
from lt_det.losses.criterion import Criterion
from lt_det.modeling.build import bound_counts
from lt_det.modeling.classification_head import classification_heads
from lt_det.modeling.image_classifier import LongTailImageClassifier


def bind_class_stats(model: nn.Module, stats: ClassStats, *, unit: Unit) -> None:
    """Give all in ``model`` that asks for them the class counts of the training set.

    Args:
        model: any module.
        stats: of the training set.
        unit: "image" or "instance".
    """
    background = not isinstance(model, LongTailImageClassifier)
    for module in model.modules():
        if isinstance(module, Criterion):
            module.bind(*bound_counts(stats, kind=module.kind, unit=unit, background=background))
    bind_post_hoc(model, stats, unit=unit)


def bind_post_hoc(model: nn.Module, stats: ClassStats, *, unit: Unit) -> None:
    """Give the post-hoc corrections in ``model`` the class counts of its training set."""
    for head in classification_heads(model):
        if head.post_hoc is not None:
            head.post_hoc.bind(torch.from_numpy(stats.counts(unit)))


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Return ``module`` in DDP if there are several processes, on GPUs or CPUs."""
    if comm.get_world_size() == 1:
        return module
    device = next(module.parameters()).device
    device_ids = None if device.type == "cpu" else [comm.get_local_rank()]
    return DistributedDataParallel(module, device_ids=device_ids, broadcast_buffers=False)
