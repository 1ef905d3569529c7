"""Machine that a recipe is for: its device, and the time that an image takes on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Model = Literal["r50", "lite0"]
Work = Literal["segmentation", "detection", "classification"]

# Seconds of a training step for each image, on a megapixel of input.
#: V100, from the training speed of Detectron2's model zoo (R50-FPN, 16 images of 0.9 megapixels on
#: 8 GPUs: 0.261 s with masks, 0.21 s without). Images to classify: ResNet-50, estimated by its
#: share of the arithmetic.
_GPU_SECONDS = {"segmentation": 0.15, "detection": 0.12, "classification": 0.05}
#: On 2 CPU cores, PyTorch 2.3.1. R50 with masks was measured (24), the others are estimates from
#: their share of the arithmetic; lite0's backbone is frozen in detectors.
_CPU_SECONDS = {
    ("r50", "segmentation"): 22.0,
    ("r50", "detection"): 16.0,
    ("r50", "classification"): 4.0,
    ("lite0", "segmentation"): 6.0,
    ("lite0", "detection"): 4.0,
    ("lite0", "classification"): 2.0,
}
_CPU_CORES = 2
#: Some 1.6 GiB for an image of 0.9 megapixels, rounded up, beside the model and its optimizer.
_GPU_BASE_GIB, _GPU_GIB = 2.5, 2.0
#: More cores than this do not help one training process.
_USEFUL_CORES = 16
#: Share of a training step that the forward pass takes, as in a frozen second stage.
FORWARD_SHARE = 0.4


@dataclass(frozen=True)
class Machine:
    """What a recipe needs to know of the machine.

    Attributes:
        device: "cuda" or "cpu", as MODEL.DEVICE has it.
        cores: CPU cores of the process.
        gpus: processes, one a GPU; 1 on a CPU.
        gpu_gib: memory of a GPU in GiB; 0 on a CPU.
        name: of the device, for comments.
    """

    device: Literal["cuda", "cpu"]
    cores: int
    gpus: int = 1
    gpu_gib: float = 0.0
    name: str = ""

    def __str__(self) -> str:
        """Return what to call it in a comment."""
        if self.device == "cpu":
            return f"{self.cores} CPU core{'s' if self.cores != 1 else ''}, no GPU"
        number = f"{self.gpus} x " if self.gpus > 1 else ""
        return f"{number}{self.name or 'GPU'} with {self.gpu_gib:.0f} GiB"

    def seconds_per_image(self, model: Model, work: Work, megapixels: float) -> float:
        """Return the estimated seconds that an image takes in training, all processes together.

        Args:
            model: of the recipe.
            work: kind of training.
            megapixels: of an image as the network gets it.
        """
        if self.device == "cuda":
            return _GPU_SECONDS[work] * megapixels / self.gpus + 0.002
        cores = min(self.cores, _USEFUL_CORES)
        return _CPU_SECONDS[model, work] * megapixels * _CPU_CORES / cores + 0.01

    def gib(self, images: int, megapixels: float) -> float:
        """Return the estimated memory of a training with R50-FPN and masks on a GPU, in GiB.

        Args:
            images: of a batch, on one GPU.
            megapixels: of an image as the network gets it.
        """
        return _GPU_BASE_GIB + images * _GPU_GIB * megapixels

    def source_of_seconds(self) -> str:
        """Return where the numbers of :meth:`seconds_per_image` come from."""
        if self.device == "cuda":
            return "from a V100's in Detectron2's model zoo"
        return "for this number of cores"


def find_machine(device: str = "auto", *, num_gpus: int | None = None) -> Machine:
    """Return the machine that the process runs on.

    Args:
        device: "auto", "cuda" or "cpu".
        num_gpus: GPUs to train on; None is one.

    Raises:
        ValueError: if a GPU is asked for and there are fewer.
    """
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = num_gpus or 1
    if device == "auto":
        device = "cuda" if there else "cpu"
    if device == "cpu":
        if num_gpus:
            raise ValueError(
                f"--num-gpus {num_gpus}, but PyTorch finds no GPU on this machine: leave it out"
                if not there
                else f"--num-gpus {num_gpus} does not go with --device cpu: leave one of them out"
            )
        return Machine("cpu", _cores())
    if there < wanted:
        raise ValueError(
            f"{wanted} GPUs are asked for (--device cuda, --num-gpus), but PyTorch finds {there} "
            "on this machine: leave the options out, or set --device cpu"
        )
    properties = torch.cuda.get_device_properties(0)
    gib = properties.total_memory / 2**30
    return Machine("cuda", _cores(), gpus=wanted, gpu_gib=gib, name=properties.name)


def _cores() -> int:
    # Containers and batch systems give a process fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
