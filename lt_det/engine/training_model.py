"""Prepare a model for training: bind class counts, wrap it in DDP."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lt_det.data.stats.class_prior import bound_counts
from lt_det.data.stats.class_stats import ClassStats, Unit
from lt_det.losses.criterion import Criterion
from lt_det.meta.ranks import average_over_ranks
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.tasks import Detection


def bind_class_stats(model: nn.Module, stats: ClassStats, *, unit: Unit) -> None:
    """Hand the class counts of the training set to all parts of ``model`` that need them.

    Args:
        model: any module.
        stats: of the training set.
        unit: "image" or "instance".
    """
    _bind(model, [m for m in model.modules() if isinstance(m, Criterion)], stats, unit=unit)
    bind_post_hoc(model, stats, unit=unit)


def bind_scores(model: nn.Module, stats: ClassStats | None, *, unit: Unit) -> None:
    """Hand the class counts to the losses in ``model`` whose scores depend on them.

    Args:
        model: any module.
        stats: of the training set; None reads them now, before the first image.
        unit: "image" or "instance".
    """
    losses = [m for m in model.modules() if isinstance(m, Criterion) and m.spec.scores_are_bound]
    if stats is not None:
        _bind(model, losses, stats, unit=unit)
    for loss in losses:
        loss.annotated_images()


def _bind(model: nn.Module, losses: list[Criterion], stats: ClassStats, *, unit: Unit) -> None:
    background = getattr(model, "task", Detection).has_background
    for loss in losses:
        counted = background and loss.spec.counts_background
        loss.bind(*bound_counts(stats, kind=loss.kind, unit=unit, background=counted))


def bind_post_hoc(model: nn.Module, stats: ClassStats, *, unit: Unit) -> None:
    """Hand the class counts of the training set to the post-hoc corrections in ``model``."""
    counts = torch.from_numpy(stats.counts(unit))
    for correction in post_hoc_corrections(model):
        correction.bind(counts, num_images=stats.num_images)


def post_hoc_corrections(model: nn.Module) -> list[PostHocCorrection]:
    """Return the post-hoc corrections of all classifiers in ``model``."""
    found = [getattr(module, "post_hoc", None) for module in model.modules()]
    return [value for value in found if isinstance(value, PostHocCorrection)]


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Return ``module`` in DDP if there are several processes, on GPUs or CPUs."""
    if comm.get_world_size() == 1:
        return module
    device = next(module.parameters()).device
    device_ids = None if device.type == "cpu" else [comm.get_local_rank()]
    return DistributedDataParallel(module, device_ids=device_ids, broadcast_buffers=False)


@torch.no_grad()
def average_batch_norm(model: nn.Module) -> None:
    """Average the running batch-norm statistics over all processes, in place.

    Each collects those of its own images, so that without it each evaluates another model and the
    checkpoint is that of the first. Layers in evaluation mode, the same ones on all ranks, are left
    alone.
    """
    buffers = [
        value
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and not isinstance(module, nn.SyncBatchNorm)
        for value in (module.running_mean, module.running_var)
        if value is not None
    ]
    if not buffers:
        return
    flat = torch.cat([value.flatten() for value in buffers])
    average_over_ranks([flat])
    for value, mean in zip(buffers, flat.split([value.numel() for value in buffers])):
        value.copy_(mean.view_as(value))
