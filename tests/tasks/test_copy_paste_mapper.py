"""Copy-paste in the training loader: what a model is trained on, seeds, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetMapper

from lt_det.data.annotations.datasets import load_lvis_format_json
from lt_det.engine.loading.build import build_train_stream
from lt_det.engine.loading.train_stream import seeded
from lt_det.engine.regions.fingerprint import described
from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, KNOWN
from lt_det.tasks.copy_paste_mapper import CopyPaste, CopyPasteMapper
from lt_det.tasks.listed_mapper import PASTED_CLASSES
from tests.engine.tiny import SIDE, tiny_config, write_tiny_lvis
from tests.modeling.small_models import NUM_CLASSES

OPTIONS = {
    "is_train": True,
    "augmentations": [],
    "image_format": "RGB",
    "use_instance_mask": True,
    "instance_mask_format": "bitmask",
}
#: Of the tiny set: class k is in every 2^k-th of 8 images, at most four, and has its own colour.
RARE = {2, 3}


@pytest.fixture
def records(tmp_path):
    return load_lvis_format_json(*write_tiny_lvis(tmp_path), name=f"tiny_{tmp_path.name}")


def mapper_of(records, *, cache_mib: float = 1.0, **options) -> CopyPasteMapper:
    copy_paste = CopyPaste(
        records,
        threshold=0.3,
        max_objects=4,
        cache_mib=cache_mib,
        category_ids={k: k + 1 for k in range(NUM_CLASSES)},
        image_format="RGB",
    )
    return CopyPasteMapper(copy_paste=copy_paste, **{**OPTIONS, **options})


def samples(mapper, records, *seeds: int) -> list[dict]:
    found = []
    for seed in seeds:
        with seeded(seed):
            found.append(mapper(records[seed % len(records)]))
    return found


def test_pixels_masks_and_boxes_agree(records):
    pasted = set()
    for sample in samples(mapper_of(records), records, *range(16)):
        pasted |= set(sample[PASTED_CLASSES])
        instances = sample["instances"]
        masks = instances.gt_masks.tensor
        torch.testing.assert_close(
            instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor
        )
        # Objects of the set do not overlap each other: a pixel has one owner, of its colour.
        assert masks.sum(dim=0).max() <= 1
        for k, mask in zip(instances.gt_classes.tolist(), masks):
            colour = torch.tensor([40 * k, 255 - 40 * k, 128], dtype=torch.uint8)
            assert (colour == sample["image"][:, mask].T).all()
        coloured = (sample["image"].amax(dim=0) >= 60) & ~masks.any(dim=0)
        assert not coloured.any()  # no pixel of an object is without an annotation
        for i in sample["neg_category_ids"]:
            assert i - 1 not in instances.gt_classes.tolist()
    assert pasted == RARE


def test_draws_depend_on_the_random_state_alone(records):
    """So they do not on what a loader process has cached, and are the same in any."""
    one, other = mapper_of(records), mapper_of(records, cache_mib=0.0)
    samples(one, records, 5, 6, 7)
    for a, b in zip(samples(one, records, 1, 2, 3), samples(other, records, 1, 2, 3)):
        assert a[PASTED_CLASSES] == b[PASTED_CLASSES]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)


def test_memory_for_cut_out_objects_is_in_mib(records):
    """A small one holds them all."""
    mapper = mapper_of(records, cache_mib=0.25)
    assert mapper._copy_paste._crops._max_bytes == 2**18
    samples(mapper, records, *range(6))
    assert len(mapper._copy_paste._crops._crops) > 1


def test_the_region_cache_tells_settings_apart_and_not_what_is_cached(records):
    mapper = mapper_of(records)
    before = described(mapper)
    samples(mapper, records, 1, 2, 3)
    assert described(mapper) == before
    mapper._copy_paste._max_objects = 9
    assert described(mapper) != before


def test_from_a_lazy_config(records, tmp_path):
    json_file, image_root = write_tiny_lvis(tmp_path)
    read = L(load_lvis_format_json)(
        json_file=json_file, image_root=image_root, name=f"tiny_{tmp_path.name}"
    )
    lazy = L(CopyPasteMapper)(
        copy_paste=L(CopyPaste)(records=read, threshold=0.3, image_format="RGB"), **OPTIONS
    )
    assert len(samples(instantiate(lazy), records, 1)) == 1


def pasting(folder, **keys):
    keys = {"LT_DET__COPY_PASTE__THRESHOLD": 0.3, "INPUT__MASK_FORMAT": "bitmask", **keys}
    return tiny_config(folder, LT_DET__COPY_PASTE__ENABLED=True, **keys)


def test_in_the_loader_of_a_training(tmp_path):
    cfg = pasting(tmp_path, LT_DET__IMAGE_LISTS__POLICY="known", DATALOADER__NUM_WORKERS=2)
    found = {}
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        batches = iter(build_train_stream(cfg))
        found[workers] = [sample for _ in range(4) for sample in next(batches)]
    assert any(sample[PASTED_CLASSES] for sample in found[0])
    for one, other in zip(found[0], found[2]):
        assert torch.equal(one["image"], other["image"])
        # Every class is annotated or verified absent in each image of the tiny set.
        assert one[CLASS_KNOWLEDGE].tolist() == [KNOWN] * NUM_CLASSES
        assert one["image"].shape[1:] == (SIDE, SIDE)


@pytest.mark.slow
def test_a_detector_trains_on_it(tmp_path):
    cfg = pasting(tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST=())
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.train()
    assert np.isfinite(trainer.storage.latest()["total_loss"][0])


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"INPUT__MASK_FORMAT": "polygon"}, "set INPUT.MASK_FORMAT bitmask"),
        ({"LT_DET__COPY_PASTE__THRESHOLD": 0.1}, r"LT_DET\.COPY_PASTE\.THRESHOLD 0\.1 leaves no"),
        ({"LT_DET__COPY_PASTE__MAX_OBJECTS": 0}, r"LT_DET\.COPY_PASTE\.MAX_OBJECTS must be at"),
        ({"LT_DET__COPY_PASTE__SCALE": [2.0, 1.0]}, r"LT_DET\.COPY_PASTE\.SCALE must be two"),
        ({"LT_DET__COPY_PASTE__CACHE_MIB": -1.0}, r"LT_DET\.COPY_PASTE\.CACHE_MIB must be"),
        (
            {"LT_DET__REGION_CACHE__ENABLED": True, "LT_DET__IMAGE_LISTS__POLICY": "all"},
            "turn one of the three off",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_training(tmp_path, keys, text):
    with pytest.raises(ValueError, match=text):
        build_train_stream(pasting(tmp_path, **keys))


def test_another_mapper_is_refused(tmp_path):
    cfg = pasting(tmp_path)
    with pytest.raises(ValueError, match="the loader has another one, DatasetMapper: derive it"):
        build_train_stream(cfg, mapper=DatasetMapper(cfg, True))


def test_boxes_without_masks_are_refused(tmp_path):
    path, _ = write_tiny_lvis(tmp_path)
    with open(path) as file:
        content = json.load(file)
    del content["annotations"][0]["segmentation"]
    with open(path, "w") as file:
        json.dump(content, file)
    with pytest.raises(ValueError, match=r"1 of 4 objects of image 1 in DATASETS\.TRAIN have none"):
        build_train_stream(pasting(tmp_path, MODEL__MASK_ON=False))
