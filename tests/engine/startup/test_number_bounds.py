"""Numbers that no training can use are refused by key; those that Detectron2 documents are not."""

from __future__ import annotations

import pytest

from lt_det.engine.startup.number_bounds import check_bounds
from tests.modeling.small_models import small_config

NAN, INF = float("nan"), float("inf")
CLIPPED = {"SOLVER__CLIP_GRADIENTS__ENABLED": True}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TEST.DETECTIONS_PER_IMAGE", 0, "at least 1, or below 0 for all"),
        ("DATALOADER.NUM_WORKERS", -1, "at least 0"),
        ("INPUT.MIN_SIZE_TRAIN", (64, -1), "at least 0"),
        ("INPUT.MAX_SIZE_TRAIN", 0, "at least 1"),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 0, "at least 1"),
        ("MODEL.ROI_HEADS.POSITIVE_FRACTION", 1.5, "from 0 to 1"),
        ("MODEL.ROI_HEADS.POSITIVE_FRACTION", -0.1, "from 0 to 1"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", -1.0, "from 0 to 1"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", NAN, "from 0 to 1"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", NAN, "a finite number of at most 1"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 5.0, "a finite number of at most 1"),
        ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 0, "at least 1"),
        ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 0, "at least 1"),
        ("MODEL.RPN.POST_NMS_TOPK_TEST", -1, "at least 1"),
        ("MODEL.RPN.NMS_THRESH", 2.0, "from 0 to 1"),
        ("MODEL.RPN.LOSS_WEIGHT", NAN, "a finite number of at least 0"),
        ("MODEL.RETINANET.TOPK_CANDIDATES_TEST", 0, "at least 1"),
        ("MODEL.RETINANET.PRIOR_PROB", 0.0, "above 0 and below 1"),
        ("MODEL.RETINANET.NMS_THRESH_TEST", -0.5, "from 0 to 1"),
        ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", -2.0, "a finite number of at least 0"),
    ],
)
def test_out_of_bounds(key, value, expected):
    with pytest.raises(ValueError, match=key) as caught:
        check_bounds(small_config(**{key.replace(".", "__"): value}))
    text = str(caught.value)
    assert text.startswith(f"{key} must ")
    assert expected in text
    assert "got " in text


@pytest.mark.parametrize("value", [0.0, -1.0, NAN])
def test_clipping_needs_a_limit_where_it_is_on(value):
    check_bounds(small_config(SOLVER__CLIP_GRADIENTS__CLIP_VALUE=value))
    with pytest.raises(ValueError, match="CLIP_GRADIENTS.CLIP_VALUE must be above 0, got "):
        check_bounds(small_config(SOLVER__CLIP_GRADIENTS__CLIP_VALUE=value, **CLIPPED))


def test_retinanet_has_no_word_for_all_detections():
    keys = {"TEST__DETECTIONS_PER_IMAGE": -1}
    check_bounds(small_config(**keys))
    with pytest.raises(ValueError, match="DETECTIONS_PER_IMAGE must .* RetinaNet, got -1"):
        check_bounds(small_config(MODEL__META_ARCHITECTURE="LongTailRetinaNet", **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"TEST__EVAL_PERIOD": 0},
        {"TEST__EVAL_PERIOD": -1, "VIS_PERIOD": -1},
        {"INPUT__MIN_SIZE_TEST": 0},
        {"MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0},
        {"MODEL__RETINANET__FOCAL_LOSS_ALPHA": -1.0},
        {"SOLVER__CLIP_GRADIENTS__NORM_TYPE": INF, **CLIPPED},
        {"SOLVER__WEIGHT_DECAY_BIAS": None},
    ],
)
def test_what_detectron2_documents_is_within(keys):
    check_bounds(small_config(**keys))


def test_an_evaluation_asks_nothing_of_the_solver():
    keys = {"SOLVER__MAX_ITER": 0, "LT_DET__META__LR": 0.0}
    check_bounds(small_config(**keys), trains=False)
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER must be at least 1, got 0"):
        check_bounds(small_config(**keys))
    with pytest.raises(ValueError, match="NMS_THRESH_TEST"):
        check_bounds(small_config(MODEL__ROI_HEADS__NMS_THRESH_TEST=-1.0), trains=False)
