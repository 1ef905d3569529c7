"""Starting one or many processes: Detectron2's own flags, or torchrun."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from detectron2 import engine
from detectron2.utils import comm

from lt_det.engine.startup.setup import load_config

_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """Call ``main(args)`` in every process and return what it returns in this one.

    Under torchrun (and so under SLURM's srun) the processes exist already and are joined, with
    NCCL where the config asks for GPUs and there are some, else with gloo. Without torchrun
    Detectron2's launcher starts ``--num-gpus`` of them on each of ``--num-machines``.
    """
    if all(name in os.environ for name in _TORCHRUN_VARIABLES):
        _join_torchrun(on_gpu=torch.cuda.is_available() and _device(args).startswith("cuda"))
        result = main(args)
        # Not after an error: torch's own report of it still asks for the rank. Not with gloo,
        # whose threads may wait for the interpreter lock that destroying it holds.
        if dist.get_backend() == "nccl":
            dist.destroy_process_group()
        return result
    return engine.launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _device(args: argparse.Namespace) -> str:
    """Return MODEL.DEVICE of the config, or of the first of several stages."""
    words = getattr(args, "stages", None) or []
    files = [word for word in words if word.endswith((".yaml", ".yml"))]
    config_file = files[0] if files else args.config_file
    return str(load_config(config_file, [*words[len(files) :], *args.opts]).MODEL.DEVICE)


def _join_torchrun(*, on_gpu: bool) -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
    else:  # Detectron2 v0.6 has no function for it, its launcher sets the variable
        machine = dist.get_rank() // local_size
        for i in range(dist.get_world_size() // local_size):
            group = dist.new_group(list(range(i * local_size, (i + 1) * local_size)))
            if i == machine:
                comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()
