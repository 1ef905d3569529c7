"""Check the flags that say how many processes a training has, and where they meet."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

import torch


def check_launch_flags(args: argparse.Namespace) -> None:
    """Raise for flags of Detectron2's launcher that cannot be.

    ``--num-gpus 0`` is one process, as Detectron2 has it; ``--dist-url`` is looked at if there are
    several.

    Args:
        args: of Detectron2's parser.

    Raises:
        ValueError: names the flag, what came and what was expected.
    """
    gpus, machines, machine = args.num_gpus, args.num_machines, args.machine_rank
    for flag, value, least in (("--num-gpus", gpus, 0), ("--num-machines", machines, 1)):
        if value < least:
            raise ValueError(f"{flag} must be at least {least}, got {value}")
    if not 0 <= machine < machines:
        known = "0" if machines == 1 else f"0 to {machines - 1}"
        raise ValueError(
            f"--machine-rank must be {known} with --num-machines {machines}, got {machine}"
        )
    if gpus == 0 and machines > 1:
        raise ValueError(
            f"--num-gpus 0 starts no process on any of --num-machines {machines}: set it to the "
            "processes of each machine"
        )
    if gpus > 1 and torch.cuda.is_available() and gpus > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus {gpus}, but PyTorch finds {torch.cuda.device_count()} GPUs on this machine"
        )
    if gpus * machines > 1:
        _check_address(args.dist_url, several_machines=machines > 1)


def _check_address(url: str, *, several_machines: bool) -> None:
    if url == "auto":
        if several_machines:
            raise ValueError(
                "--dist-url 'auto' looks for a free port on one machine: give all machines the "
                "same tcp://host:port, a free port of machine 0"
            )
        return
    try:
        parts = urlsplit(url)
        is_tcp = parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port)
    except ValueError:  # no number, or none of a port
        is_tcp = False
    if not is_tcp and not (url.startswith("file:///") and len(url) > len("file:///")):
        raise ValueError(
            f"--dist-url {url!r} is no place where processes can meet: expected tcp://host:port "
            "with a free port, file:// with the whole path of a file that all see, or auto"
        )
