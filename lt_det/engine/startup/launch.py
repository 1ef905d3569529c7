"""Start one or many processes, by Detectron2's flags or under torchrun."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from detectron2 import engine
from detectron2.utils import comm

from lt_det.engine.startup.launch_flags import check_launch_flags
from lt_det.engine.startup.setup import load_config
from lt_det.evaluation.rank_watch import RankWatch, explain, watch_ranks

logger = logging.getLogger(__name__)

#: PyTorch gives a wait up so much later than we do, without saying which rank it was for.
_LAST_RESORT = timedelta(minutes=1)
_FOREVER = 60 * 24 * 365

_TORCHRUN_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
)


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """Call ``main(args)`` in every process and return what it returns in this one.

    Under torchrun (and so under SLURM's srun) the processes exist already and are joined, with
    NCCL where the config asks for GPUs and there are some, else with gloo. Without torchrun
    Detectron2's launcher starts ``--num-gpus`` of them on each of ``--num-machines``.

    Of several processes, none waits longer than LT_DET.RANK_TIMEOUT_MINUTES for one that makes no
    progress: it ends and names that one.

    Raises:
        ValueError: names the flag that cannot be, before any process is started.
    """
    if all(name in os.environ for name in _TORCHRUN_VARIABLES):
        cfg = _first_config(args)
        limit = _limit(cfg)
        on_gpu = torch.cuda.is_available() and str(cfg.MODEL.DEVICE).startswith("cuda")
        _join_torchrun(on_gpu=on_gpu, timeout=limit + _LAST_RESORT)
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        result = _run_watched(main, *place, limit, args)
        # Not after an error: torch's own report of it still asks for the rank. Not with gloo,
        # whose threads may wait for the interpreter lock that destroying it holds.
        if dist.get_backend() == "nccl":
            dist.destroy_process_group()
        return result
    check_launch_flags(args)
    arguments: dict[str, Any] = {}
    if args.num_gpus * args.num_machines > 1:
        limit = _limit(_first_config(args))
        arguments["timeout"] = limit + _LAST_RESORT
        url = urlsplit(args.dist_url)
        if url.scheme == "tcp" and url.hostname and url.port:
            main = functools.partial(_run_watched, main, url.hostname, url.port, limit)
        else:
            logger.warning(
                "--dist-url %s is no tcp://host:port: a rank that hangs is not named", args.dist_url
            )
    return engine.launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
        **arguments,
    )


def _first_config(args: argparse.Namespace) -> Any:
    """Return the config, or the first of several stages."""
    words = getattr(args, "stages", None) or []
    files = [word for word in words if word.endswith((".yaml", ".yml"))]
    config_file = files[0] if files else args.config_file
    return load_config(config_file, [*words[len(files) :], *args.opts])


def _limit(cfg: Any) -> timedelta:
    minutes = cfg.LT_DET.RANK_TIMEOUT_MINUTES
    if not 0 < minutes < _FOREVER:
        raise ValueError(
            f"LT_DET.RANK_TIMEOUT_MINUTES must be above 0 and below {_FOREVER}, got {minutes}"
        )
    return timedelta(minutes=minutes)


def _run_watched(
    main: Callable[[argparse.Namespace], Any],
    host: str,
    port: int,
    limit: timedelta,
    args: argparse.Namespace,
) -> Any:
    """Call ``main`` in one of several processes, with all of them watched.

    Args:
        main: see :func:`launch`.
        host: where the store of the process group is.
        port: of it.
        limit: see :class:`~lt_det.evaluation.rank_watch.RankWatch`.
        args: of ``main``.
    """
    # A connection of its own: on that of the process group a wait would hold up the watch.
    store: dist.Store = dist.TCPStore(host, port, is_master=False, wait_for_workers=False)
    # Workers that torchrun starts anew find a clean one.
    store = dist.PrefixStore(f"lt_det{os.environ.get('TORCHELASTIC_RESTART_COUNT', '')}", store)
    watch_ranks(
        RankWatch(store, rank=dist.get_rank(), world_size=dist.get_world_size(), limit=limit)
    )
    try:
        result = main(args)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise RuntimeError(f"{message}; rank {dist.get_rank()} ends: {error}") from error
    watch_ranks(None)
    return result


def _join_torchrun(*, on_gpu: bool, timeout: timedelta) -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
    else:  # Detectron2 v0.6 has no function for it, its launcher sets the variable
        machine = dist.get_rank() // local_size
        for i in range(dist.get_world_size() // local_size):
            group = dist.new_group(list(range(i * local_size, (i + 1) * local_size)))
            if i == machine:
                comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()
