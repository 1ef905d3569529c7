"""The region cache is used where it fits, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils import comm

from lt_det.engine.region_cache import build_region_cache, region_fingerprint
from lt_det.engine.train_loader import load_train_dicts
from lt_det.modeling.decoupled import freeze_all_but_classifier
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import small_model


@pytest.fixture
def setting(tmp_path):
    cfg = tiny_config(tmp_path, LT_DET__LOSS="sigmoid_ce")
    model = freeze_all_but_classifier(small_model(cfg)).train()
    return cfg, model, load_train_dicts(cfg)


def changed(cfg, **keys):
    cfg = cfg.clone()
    cfg.merge_from_list([part for k, v in keys.items() for part in (k.replace("__", "."), v)])
    return cfg


def test_fingerprint_ignores_what_is_trained(setting):
    cfg, model, dicts = setting
    before = region_fingerprint(cfg, model, dicts)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight += 1
    moved = changed(cfg, MODEL__WEIGHTS="other.pth", LT_DET__LOSS="balanced_sigmoid")
    moved.OUTPUT_DIR, moved.SOLVER.BASE_LR = "elsewhere", 0.3
    assert region_fingerprint(moved, model, dicts) == before


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL__ROI_BOX_HEAD__POOLER_SAMPLING_RATIO": 2},
        {"MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIAlign"},
        {"MODEL__ROI_BOX_CASCADE_HEAD__IOUS": (0.4, 0.5, 0.6)},
        {"MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 8},
        {"MODEL__ROI_HEADS__PROPOSAL_APPEND_GT": False},
        {"MODEL__RPN__POST_NMS_TOPK_TRAIN": 32},
        {"INPUT__FORMAT": "RGB"},
        {"SEED": 6},
        {"LT_DET__REGION_CACHE__EPOCHS": 2},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_fingerprint_knows_what_regions_depend_on(setting, keys):
    cfg, model, dicts = setting
    other = region_fingerprint(changed(cfg, **keys), model, dicts)
    assert other != region_fingerprint(cfg, model, dicts)


def test_fingerprint_knows_frozen_weights_and_images(setting):
    cfg, model, dicts = setting
    prints = {region_fingerprint(cfg, model, dicts), region_fingerprint(cfg, model, dicts[1:])}
    dicts[0]["annotations"][0]["category_id"] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    with torch.no_grad():
        next(model.backbone.parameters()).view(-1)[0] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    next(b for n, b in model.named_buffers() if n.endswith("running_mean"))[0] += 1
    prints.add(region_fingerprint(cfg, model, dicts))
    assert len(prints) == 5


def test_file_is_read_unless_another_rank_lacks_it(setting, monkeypatch, tmp_path):
    cfg, model, dicts = setting
    records = build_region_cache(cfg, model, dicts)
    (path,) = tmp_path.glob("regions_*.pth")
    content = torch.load(path, weights_only=True)
    content[0][0][0].fill_(7.0)
    torch.save(content, path)
    assert (build_region_cache(cfg, model, dicts)[0][0][0] == 7.0).all()

    # The other rank has another disk: all compute, or it would wait for this one for ever.
    gather = comm.all_gather
    monkeypatch.setattr(
        comm, "all_gather", lambda v: [v, False] if isinstance(v, bool) else gather(v)
    )
    again = build_region_cache(cfg, model, dicts)
    assert torch.equal(again[0][0][0], records[0][0][0])
