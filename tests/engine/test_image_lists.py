"""Whole trainings that honour image lists: from the json to the classifier, cached too."""

from __future__ import annotations

import json
import os

import pytest
import torch

from lt_det.engine.loading.image_lists import ListedRegionStore
from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.criterion import Criterion
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, KNOWN, UNKNOWN, ImageLists
from lt_det.modeling.image_lists import take_lists
from lt_det.tasks.listed_mapper import ListedMapper
from tests.engine.digits import digits_config
from tests.engine.tiny import tiny_config, write_tiny_lvis
from tests.modeling.small_models import NUM_CLASSES


def without_class(folder, number: int) -> None:
    """Take a class out of all lists of negatives, and make it one without objects."""
    path, _ = write_tiny_lvis(folder)
    with open(path) as file:
        content = json.load(file)
    for image in content["images"]:
        image["neg_category_ids"] = [i for i in image["neg_category_ids"] if i != number]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != number]
    with open(path, "w") as file:
        json.dump(content, file)


def trained(cfg, weights: str = "") -> LongTailTrainer:
    torch.manual_seed(0)
    cfg.MODEL.WEIGHTS = weights
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


@pytest.mark.slow
def test_a_training_and_its_second_stage_from_the_cache(tmp_path):
    without_class(tmp_path, 6)  # the last; no json has its images
    keys = {"LT_DET__IMAGE_LISTS__POLICY": "known", "DATASETS__TEST": (), "SOLVER__MAX_ITER": 2}
    keys |= {"SOLVER__WEIGHT_DECAY": 0.0, "MODEL__MASK_ON": False}
    trainer = trained(tiny_config(tmp_path, **keys))
    predictor = trainer._detector.roi_heads.box_predictor
    torch.manual_seed(0)
    start = trainer.build_model(trainer.cfg).roi_heads.box_predictor.cls_score.bias
    moved = (predictor.cls_score.bias != start).tolist()
    assert moved == [True] * 5 + [False, True]  # the background moves

    weights = os.path.join(trainer.cfg.OUTPUT_DIR, "model_final.pth")
    keys |= {"LT_DET__DECOUPLED": True, "OUTPUT_DIR": str(tmp_path / "second")}
    found = {}
    for cached in (False, True):
        cfg = tiny_config(tmp_path, **keys, LT_DET__REGION_CACHE__ENABLED=cached)
        second = trained(cfg, weights)
        found[cached] = second._detector.roi_heads.box_predictor.cls_score
        assert found[cached].bias[5] == predictor.cls_score.bias[5]
        assert found[cached].bias[0] != predictor.cls_score.bias[0]
    assert isinstance(second._stream.items, ListedRegionStore)
    lists = [regions.class_knowledge.tolist() for regions in second._stream.items]
    dicts = second._stream.items._dicts
    for one, record in zip(lists, dicts):
        present = {a["category_id"] for a in record["annotations"]}
        known = present | {i - 1 for i in record["neg_category_ids"]}
        assert one == [KNOWN if k in known else UNKNOWN for k in range(NUM_CLASSES)]
    assert len({tuple(one) for one in lists}) == 1  # all but the last class are known here
    assert lists[0][5] == UNKNOWN


def test_cached_regions_have_the_lists_of_their_image():
    """Record e * N + i of a cache is image i in augmentation e."""
    dicts = [
        {"annotations": [{"category_id": i}], "neg_category_ids": [(i + 1) % 3 + 10]}
        for i in range(3)
    ]
    mapper = ListedMapper(no_image, num_classes=3, id_map={10: 0, 11: 1, 12: 2})
    regions = [[(torch.full((2, 4), float(row)), torch.zeros(2).long())] for row in range(6)]
    store = ListedRegionStore(regions, dicts, mapper)
    assert len(store) == 6
    for row in range(6):
        unknown = (row + 2) % 3
        expected = [UNKNOWN if k == unknown else KNOWN for k in range(3)]
        assert getattr(store[row], CLASS_KNOWLEDGE).tolist() == expected
        assert store[row][0][0][0, 0] == row
    # As a loader hands them to the classifier.
    model = torch.nn.Linear(4, 4)
    model.criterion = Criterion("softmax_ce", image_lists=ImageLists("known"))
    take_lists(model, [store[4], store[2]])
    assert torch.equal(
        model.criterion.image_lists.knowledge,
        torch.stack([store[1].class_knowledge, store[2].class_knowledge]),
    )


def no_image(record: dict) -> dict:
    raise AssertionError(f"the image of {record} is not to be read")


def test_a_data_set_without_lists_is_taken_as_exhaustive(tmp_path, caplog):
    path, _ = write_tiny_lvis(tmp_path)
    with open(path) as file:
        content = json.load(file)
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    with open(path, "w") as file:
        json.dump(content, file)
    cfg = tiny_config(tmp_path, LT_DET__IMAGE_LISTS__POLICY="known")
    stream = LongTailTrainer.build_train_loader(cfg)
    assert "no image of DATASETS.TRAIN" in caplog.text
    (first, _) = next(iter(stream))
    assert first[CLASS_KNOWLEDGE].tolist() == [KNOWN] * NUM_CLASSES


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("LT_DET.IMAGE_LISTS.POLICY", "all", r"LT_DET\.IMAGE_LISTS\.POLICY 'all' is for detectors"),
        ("LT_DET.COPY_PASTE.ENABLED", True, r"LT_DET\.COPY_PASTE\.ENABLED pastes objects by their"),
    ],
)
def test_image_classification_has_neither_lists_nor_masks(tmp_path, key, value, text):
    with pytest.raises(ValueError, match=text):
        LongTailTrainer(digits_config(tmp_path, key, value))
