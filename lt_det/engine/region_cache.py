"""Second stage from cached region features.

Below the box classifier everything is frozen, so its input need not be computed twice. The cache
is held in memory and kept in one file; the sampler draws images from it as from the data set.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import Any, List, Sequence, Tuple

import torch
from detectron2.data import DatasetMapper
from detectron2.utils import comm
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from lt_det.engine.region_tap import TappedStage, frozen_regions
from lt_det.engine.train_loader import PositionedDataset
from lt_det.meta.hypergradient import Regions
from lt_det.modeling.roi_heads import box_predictors

logger = logging.getLogger(__name__)

#: One image: for each classifier, features (Ri, D) and labels (Ri,).
ImageRegions = List[Tuple[Tensor, Tensor]]


class RegionClassifier(nn.Module):
    """The detector with its training forward cut down to the box classifiers.

    In training it takes cached regions and returns the classification losses under Detectron2's
    names; in evaluation it is the detector.
    """

    def __init__(self, detector: nn.Module) -> None:
        """Wrap a detector with box predictors of this package."""
        super().__init__()
        self.detector = detector

    def forward(self, batch: list) -> Any:
        """Return ``loss_cls``, or for a cascade ``loss_cls_stage0`` and so on.

        Args:
            batch: one item an image, of :class:`RegionCache`; in evaluation Detectron2's.
        """
        if not self.training:
            return self.detector(batch)
        predictors = list(box_predictors(self.detector))
        losses = {}
        for i, (predictor, regions) in enumerate(zip(predictors, collate_regions(batch))):
            sizes = [image[i][1].numel() for image in batch]
            device = predictor.cls_score.weight.device
            logits = predictor.cls_score(regions.features.to(device, torch.float32))
            name = "loss_cls" if len(predictors) == 1 else f"loss_cls_stage{i}"
            losses[name] = predictor.classification_loss(
                logits, regions.labels.to(device), regions_per_image=sizes
            )
        return losses


def collate_regions(batch: Sequence[ImageRegions]) -> list[Regions]:
    """Return the regions of several images joined, one item for each classifier."""
    return [
        Regions(torch.cat([f for f, _ in stage]), torch.cat([y for _, y in stage]))
        for stage in zip(*batch)
    ]


def split_by_image(stages: Sequence[TappedStage]) -> list[ImageRegions]:
    """Return what was tapped as one record an image, on the CPU."""
    columns = []
    for stage in stages:
        sizes = list(stage.regions_per_image)
        features = stage.features.float().cpu().split(sizes)
        # Cloned: a split shares the memory of the whole batch.
        labels = stage.labels.cpu().split(sizes)
        columns.append([(f.clone(), y.clone()) for f, y in zip(features, labels)])
    return [list(record) for record in zip(*columns)]


def compute_regions(
    detector: nn.Module, samples: Any, *, ims_per_forward: int = 8
) -> list[ImageRegions]:
    """Return the regions of each sample, in order, with a progress bar.

    Args:
        detector: in training mode; nothing of it is changed.
        samples: with a length, indexable by number, each item as a data loader's mapper returns it.
        ims_per_forward: images of one forward.
    """
    records: list[ImageRegions] = []
    with tqdm(total=len(samples), desc="region features", unit="img", disable=None) as bar:
        for start in range(0, len(samples), ims_per_forward):
            batch = [samples[i] for i in range(start, min(start + ims_per_forward, len(samples)))]
            records += split_by_image(frozen_regions(detector, batch))
            bar.update(len(batch))
    return records


def build_region_cache(cfg: Any, detector: nn.Module, dicts: Sequence[dict]) -> list[ImageRegions]:
    """Return cached regions of the training set, LT_DET.REGION_CACHE.EPOCHS times over.

    Record ``e * len(dicts) + i`` belongs to image i in augmentation e. Each rank computes a share
    and all get the whole. A file in OUTPUT_DIR's parent is used if it was made from the same
    frozen weights, images and config, and written (atomically) if not.
    """
    epochs = cfg.LT_DET.REGION_CACHE.EPOCHS
    seed = max(cfg.SEED, 0)
    path = os.path.join(
        os.path.dirname(os.path.abspath(cfg.OUTPUT_DIR)),
        f"regions_{region_fingerprint(cfg, detector, dicts)}.pth",
    )
    # All or none: where one rank does not see the file, the others must compute with it.
    if all(comm.all_gather(os.path.isfile(path))):
        logger.info("Region features are read from %s", path)
        return torch.load(path, weights_only=True)
    samples = PositionedDataset(dicts, mapper=DatasetMapper(cfg, True), seed=seed)
    ranks, rank = comm.get_world_size(), comm.get_rank()
    codes = range(rank, epochs * len(dicts), ranks)
    share = compute_regions(
        detector, _Picked(samples, [i * len(dicts) + i % len(dicts) for i in codes])
    )
    shares = comm.all_gather(share)
    records = [shares[i % ranks][i // ranks] for i in range(epochs * len(dicts))]
    if comm.is_main_process():
        torch.save(records, f"{path}.partial")
        os.replace(f"{path}.partial", path)
        logger.info("Region features of %d images are kept in %s", len(dicts), path)
    comm.synchronize()
    return records


class _Picked(Dataset):
    """A sequence of some samples of another one, loaded when asked for."""

    def __init__(self, samples: PositionedDataset, codes: Sequence[int]) -> None:
        self._samples, self._codes = samples, codes

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, i: int) -> Any:
        return self._samples[self._codes[i]]


def region_fingerprint(cfg: Any, detector: nn.Module, dicts: Sequence[dict]) -> str:
    """Return a hash of all that region features depend on: weights, images, input, proposals."""
    digest = hashlib.sha256()
    trained = {id(p) for p in detector.parameters() if p.requires_grad}
    named = [*detector.named_parameters(), *detector.named_buffers()]
    for name, value in named:
        if id(value) not in trained:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for record in dicts:
        digest.update(str(record.get("file_name")).encode())
        digest.update(str([(a["category_id"], a["bbox"]) for a in record["annotations"]]).encode())
    # All keys of the model: any of poolers, cascade thresholds, norms and so on may matter.
    model = cfg.MODEL.clone()
    model.defrost()
    model.WEIGHTS, model.DEVICE = "", ""  # their values are above, their names do not matter
    keys = [model.dump(), cfg.INPUT.dump(), cfg.SEED, cfg.LT_DET.REGION_CACHE.EPOCHS]
    digest.update(repr(keys).encode())
    return digest.hexdigest()[:16]
