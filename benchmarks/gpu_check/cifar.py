"""The paper's recipe on CIFAR-10-LT, imbalance factor 100, with the images on the GPU.

Cross-entropy as the first stage, Balanced Softmax, Balanced Softmax decoupled and BALMS, one seed.
The images are decoded once and stay on the device; crops, flips and cutout are made there, a batch
at a time. The papers' AutoAugment is left out. If the time is too short for all iterations, each
schedule is shortened by the same factor; the note says to which.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from detectron2.data import get_detection_dataset_dicts
from PIL import Image
from timing import REPOSITORY
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_check.device import DEVICE, SMALL
from gpu_check.results import Results
from lt_det.engine.startup.setup import load_config
from lt_det.engine.trainer import LongTailTrainer

CONFIGS = REPOSITORY / "configs" / "classification"
#: config, name, top-1 of arXiv:2007.10740 (Tables 2 and 5), whether it is a second stage
RUNS = (
    ("stage1", "cross-entropy", 77.4, False),
    ("balanced_softmax", "Balanced Softmax", 83.1, False),
    ("balanced_softmax_decoupled", "Balanced Softmax decoupled", 83.7, True),
    ("balms", "BALMS", 84.9, True),
)
TIMED, SIDE, PADDING, CUTOUT = 20, 32, 4, 16
#: Of the time, for the images and the evaluations.
SPARE = 0.15
#: Less of the schedules teaches nothing.
LEAST = 0.01
CLASSES = 10


def run(results: Results, seconds: float) -> None:
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, synthetic = find_data(folder)
        if synthetic:
            results.note("CIFAR-10 is not on this machine: synthetic images, no paper to compare")
        pixels = Pixels(settings(data, folder, "stage1"))
        share = shortened(data, folder, pixels, end - time.monotonic())
        if share < LEAST and not SMALL:
            results.note(f"too little time: {share:.2%} of the schedules would fit")
            return
        results.note(f"each schedule is {share:.1%} of the paper's; without AutoAugment")
        for config, what, paper, second in RUNS:

            def trained(config: str = config, paper: float = paper, second: bool = second) -> str:
                weights = folder / "stage1" / "model_final.pth" if second else None
                cfg = settings(data, folder, config, share=share, weights=weights)
                start = time.monotonic()
                model = train(cfg, pixels)
                took = time.monotonic() - start
                top1, few = accuracy(model, pixels)
                said = "" if synthetic else f" (paper {paper})"
                assert top1 > 100 / CLASSES or SMALL, f"top-1 {top1:.1f} is chance"
                return f"top-1 {top1:.1f}{said}, three rarest classes {few:.1f}, {took:.0f} s"

            results.check(f"CIFAR-10-LT, {what}", trained)


def find_data(folder: Path) -> tuple[tuple[str, str], bool]:
    """Return kind and path of the images, and whether they are drawn."""
    places = [
        os.environ.get("LT_DET_CIFAR"),
        REPOSITORY / "build" / "gpu" / "cifar10_lt.npz",
        REPOSITORY.parent / "shared" / "data" / "cifar10_jpeg.npz",
        Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "cifar-10-batches-py",
    ]
    for place in places:
        if place and os.path.exists(place) and not SMALL:
            return ("npz" if str(place).endswith(".npz") else "cifar10", str(place)), False
    path = folder / "synthetic.npz"
    write_synthetic(path)
    return ("npz", str(path)), True


def write_synthetic(path: Path) -> None:
    """Write noise whose colour says the class, less and less surely, as an npz of JPEGs."""
    generator = np.random.default_rng(0)
    colours = generator.uniform(40, 215, (CLASSES, 3))
    files, labels, is_test = [], [], []
    for test, count in ((False, 120 if SMALL else 5000), (True, 20 if SMALL else 1000)):
        for label in range(CLASSES):
            for _ in range(count):
                noise = generator.normal(colours[label], 60, (SIDE, SIDE, 3)).clip(0, 255)
                file = io.BytesIO()
                Image.fromarray(noise.astype(np.uint8)).save(file, "JPEG", quality=90)
                files.append(file.getvalue())
                labels.append(label)
                is_test.append(test)
    np.savez(
        path,
        data=np.frombuffer(b"".join(files), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=np.array(labels),
        is_test=np.array(is_test),
        classes=np.array([f"class_{k}" for k in range(CLASSES)]),
    )


def settings(
    data: tuple[str, str],
    folder: Path,
    config: str,
    *,
    share: float = 1.0,
    weights: Path | None = None,
) -> Any:
    """Return a config of the paper's recipe, its schedule shortened to a share."""
    sets = [[name, *data, split] for name, split in (("gpu_lt", "train"), ("gpu_test", "test"))]
    options = {
        "LT_DET.CLASSIFICATION.DATASETS": sets,
        "DATASETS.TRAIN": ("gpu_lt",),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "LT_DET.PROGRESS_BAR": False,
        "MODEL.DEVICE": DEVICE,
        "MODEL.WEIGHTS": str(weights or ""),
        "SEED": 0,
        "OUTPUT_DIR": str(folder / config),
        **({"SOLVER.IMS_PER_BATCH": 16} if SMALL else {}),
    }
    pairs = [str(part) for item in options.items() for part in item]
    cfg = load_config(str(CONFIGS / f"cifar10_lt_{config}.yaml"), pairs)
    cfg.SOLVER.MAX_ITER = max(round(cfg.SOLVER.MAX_ITER * share), 2)
    cfg.SOLVER.WARMUP_ITERS = round(cfg.SOLVER.WARMUP_ITERS * share)
    cfg.SOLVER.CHECKPOINT_PERIOD = cfg.SOLVER.MAX_ITER
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    return cfg


class Pixels:
    """The images of both sets on the device, ``(N, 3, 32, 32)`` uint8, and their labels."""

    def __init__(self, cfg: Any) -> None:
        """Decode them, each once; the training set's by the path of their record."""
        LongTailTrainer.build_train_loader(cfg)  # registers nothing, checks the set
        self.places: dict[Any, int] = {}
        self.sets: dict[str, tuple[Tensor, Tensor]] = {}
        for name in ("gpu_lt", "gpu_test"):
            records = get_detection_dataset_dicts([name], filter_empty=False)
            images = np.stack([self._image(record) for record in records])
            labels = torch.tensor([record["category_id"] for record in records])
            tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
            self.sets[name] = tensor.to(DEVICE), labels.to(DEVICE)
            if name == "gpu_lt":
                self.places = {record["image_id"]: i for i, record in enumerate(records)}
        self.counts = self.sets["gpu_lt"][1].bincount(minlength=CLASSES)

    @staticmethod
    def _image(record: Any) -> np.ndarray:
        return np.asarray(record["image"])

    def batch(self, places: Tensor) -> Tensor:
        """Return images cropped from a border of zeros, flipped and cut out, as floats."""
        images = F.pad(self.sets["gpu_lt"][0][places], [PADDING] * 4).float()
        count, device = len(images), images.device
        corners = torch.randint(0, 2 * PADDING + 1, (2, count, 1), device=device)
        side = torch.arange(SIDE, device=device)
        rows, columns = (corners + side).unbind()
        columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns, columns.flip(1))
        each = torch.arange(count, device=device)[:, None, None]
        images = images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        centres = torch.randint(0, SIDE, (2, count, 1), device=device)
        inside = (side - centres).abs() * 2 < CUTOUT
        hidden = inside[0][:, :, None] & inside[1][:, None, :]
        return images.masked_fill(hidden[:, None], 0.0)


class OnDevice(LongTailTrainer):
    """A trainer whose records are places in :class:`Pixels`."""

    pixels: Pixels

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """Return a model that takes its images from the device."""
        model = super().build_model(cfg)
        pixels = cls.pixels

        def images(self: Any, batch: Any) -> Tensor:
            places = torch.tensor([pixels.places[x["image_id"]] for x in batch], device=DEVICE)
            return (pixels.batch(places) - self.pixel_mean) / self.pixel_std

        model.images = MethodType(images, model)
        return model

    @classmethod
    def build_train_loader(cls, cfg: Any, mapper: Any = None) -> Any:
        """Return batches of ids and labels."""
        return super().build_train_loader(cfg, mapper=mapper or ids_of)


def ids_of(records: list[Any]) -> list[dict[str, Any]]:
    """Return what a batch needs of its records."""
    return [{key: record[key] for key in ("image_id", "category_id")} for record in records]


def train(cfg: Any, pixels: Pixels) -> nn.Module:
    OnDevice.pixels = pixels
    trainer = OnDevice(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer._detector


def shortened(data: tuple[str, str], folder: Path, pixels: Pixels, seconds: float) -> float:
    """Return the share of all schedules that fits into the time, 1 at most, from a short run."""
    planned = [settings(data, folder, config).SOLVER.MAX_ITER for config, *_ in RUNS]
    if SMALL:
        return 2 / max(planned)
    cfg = settings(data, folder / "timed", "stage1", share=TIMED / planned[0])
    train(cfg, pixels)  # cuDNN chooses its algorithms
    start = time.monotonic()
    train(cfg, pixels)
    each = (time.monotonic() - start) / cfg.SOLVER.MAX_ITER
    return min((1 - SPARE) * seconds / (each * sum(planned)), 1.0)


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Pixels) -> tuple[float, float]:
    """Return top-1 in percent of the test set, and of its three rarest classes in training."""
    model.eval()
    images, labels = pixels.sets["gpu_test"]
    right = torch.cat(
        [
            model.logits((x.float() - model.pixel_mean) / model.pixel_std).argmax(1) == y
            for x, y in zip(images.split(1000), labels.split(1000))
        ]
    ).float()
    rare = torch.isin(labels, pixels.counts.argsort()[:3])
    return 100 * float(right.mean()), 100 * float(right[rare].mean())
