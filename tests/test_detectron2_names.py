"""Every private or version-dependent name of Detectron2 and fvcore that the package touches.

When one of these fails on a new Detectron2, the table says which of our files to look at.
"""

from __future__ import annotations

import inspect

import pytest
import torch
from detectron2 import engine
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data.build import (
    get_detection_dataset_dicts,
    print_instances_class_histogram,
    worker_init_reset_seed,
)
from detectron2.data.common import AspectRatioGroupedDataset, DatasetFromList
from detectron2.data.datasets import register_coco_instances, register_lvis_instances
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads import mask_head as detectron2_mask_head
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

DENSE_LOSSES = ("anchors", "pred_logits", "gt_labels", "pred_anchor_deltas", "gt_boxes")

#: (object, attribute, parameters we pass by name or position, our file)
CALLABLES = [
    (StandardROIHeads, "_init_box_head", ("cfg", "input_shape"), "modeling/roi_heads.py"),
    (CascadeROIHeads, "_init_box_head", ("cfg", "input_shape"), "modeling/roi_heads.py"),
    (Res5ROIHeads, "from_config", ("cfg", "input_shape"), "modeling/roi_heads.py"),
    (FastRCNNOutputLayers, "from_config", ("cfg", "input_shape"), "modeling/box_predictor.py"),
    (FastRCNNOutputLayers, "losses", ("predictions", "proposals"), "modeling/box_predictor.py"),
    (
        FastRCNNOutputLayers,
        "predict_probs",
        ("predictions", "proposals"),
        "modeling/box_predictor.py",
    ),
    (
        detectron2_mask_head,
        "mask_rcnn_loss",
        ("pred_mask_logits", "instances", "vis_period"),
        "modeling/mask_head.py",
    ),
    (
        detectron2_mask_head,
        "mask_rcnn_inference",
        ("pred_mask_logits", "pred_instances"),
        "modeling/mask_head.py",
    ),
    (DetectionCheckpointer, "_load_file", ("filename",), "engine/checkpoint.py"),
    (DetectionCheckpointer, "_load_model", ("checkpoint",), "engine/checkpoint.py"),
    (DetectionCheckpointer, "tag_last_checkpoint", (), "engine/checkpoint.py"),
    (DetectionCheckpointer, "resume_or_load", ("path", "resume"), "engine/trainer.py"),
    (COCOEvaluator, "_derive_coco_results", ("coco_eval", "iou_type"), "evaluation/coco_evalu"),
    (engine.DefaultTrainer, "auto_scale_workers", ("cfg", "num_workers"), "engine/trainer.py"),
    (engine.DefaultTrainer, "build_hooks", (), "engine/trainer.py"),
    (engine.DefaultTrainer, "resume_or_load", ("resume",), "engine/trainer.py"),
    (engine.DefaultTrainer, "test", ("cfg", "model", "evaluators"), "engine/trainer.py"),
    (engine, "launch", ("dist_url", "args", "machine_rank"), "engine/launch.py"),
    (
        RepeatFactorTrainingSampler,
        "repeat_factors_from_category_frequency",
        ("dataset_dicts", "repeat_thresh"),
        "engine/loading/train_stream.py",
    ),
    (comm, "shared_random_seed", (), "engine/loading/train_stream.py"),
    (EventStorage, "latest", (), "engine/hooks.py"),
    (EventStorage, "put_scalar", ("smoothing_hint",), "engine/metrics_file.py"),
    (EventStorage, "latest_with_smoothing_hint", ("window_size",), "engine/metrics_file.py"),
    (engine.DefaultTrainer, "build_writers", (), "engine/trainer.py"),
    (Backbone, "output_shape", (), "modeling/timm_backbone.py"),
    (CascadeROIHeads, "_forward_box", ("features", "proposals"), "modeling/roi_heads.py"),
    (CascadeROIHeads, "_run_stage", ("features", "proposals"), "modeling/postprocessing/roi.py"),
    (
        CascadeROIHeads,
        "_create_proposals_from_boxes",
        ("boxes", "image_sizes"),
        "modeling/postprocessing/roi.py",
    ),
    (
        RetinaNet,
        "inference_single_image",
        ("anchors", "box_cls", "box_delta", "image_size"),
        "modeling/postprocessing/dense.py",
    ),
    (RetinaNet, "losses", DENSE_LOSSES, "modeling/dense_losses.py"),
    (FCOS, "losses", (*DENSE_LOSSES, "pred_centerness"), "modeling/dense_losses.py"),
    (
        DenseDetector,
        "_ema_update",
        ("name", "value", "initial_value", "momentum"),
        "modeling/dense_losses.py",
    ),
]

CONSTRUCTORS = [
    (TrainingSampler, ("seed",)),
    (RepeatFactorTrainingSampler, ("seed",)),
    (DatasetFromList, ("copy",)),
    (DetectionCheckpointer, ("save_dir", "checkpointables")),
    (FPN, ("bottom_up", "in_features", "out_channels", "norm", "top_block", "fuse_type")),
    (engine.SimpleTrainer, ("model", "data_loader", "optimizer")),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters", "where"),
    CALLABLES,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_callable_exists_with_its_parameters(owner, name, parameters, where):
    function = getattr(owner, name, None)
    assert callable(function), where
    assert set(parameters) <= set(inspect.signature(function).parameters), where


@pytest.mark.parametrize(
    ("owner", "parameters"), CONSTRUCTORS, ids=lambda v: getattr(v, "__name__", "")
)
def test_constructor_takes_its_parameters(owner, parameters):
    assert set(parameters) <= set(inspect.signature(owner.__init__).parameters)


def test_parts_of_the_loader_exist():
    """engine/loading puts them together itself: versions deal out positions differently."""
    assert list(inspect.signature(worker_init_reset_seed).parameters) == ["worker_id"]
    samples = [{"width": w, "height": 2, "n": n} for n, w in enumerate((3, 1, 3, 1))]
    batches = list(AspectRatioGroupedDataset(samples, 2))
    assert [[s["n"] for s in batch] for batch in batches] == [[0, 2], [1, 3]]


def test_parts_of_training_records_exist():
    """engine/train_dicts.py takes their place where it knows the reader of a data set."""
    parameters = inspect.signature(get_detection_dataset_dicts).parameters
    assert {"names", "filter_empty", "min_keypoints", "proposal_files"} <= set(parameters)
    assert list(inspect.signature(check_metadata_consistency).parameters) == [
        "key",
        "dataset_names",
    ]
    histogram = inspect.signature(print_instances_class_histogram).parameters
    assert list(histogram) == ["dataset_dicts", "class_names"]
    for register in (register_coco_instances, register_lvis_instances):
        inner = [c for c in register.__code__.co_consts if inspect.iscode(c)]
        assert [c.co_name for c in inner] == ["<lambda>"], "the cache knows a reader by its name"


def test_predictor_keeps_what_ours_reads():
    """modeling/roi_heads.py, box_predictor.py and patching/box_heads.py."""
    predictor = FastRCNNOutputLayers(
        ShapeSpec(channels=4), box2box_transform=Box2BoxTransform((1.0, 1, 1, 1)), num_classes=3
    )
    for name in [
        "num_classes",
        "test_score_thresh",
        "test_nms_thresh",
        "test_topk_per_image",
        "smooth_l1_beta",
        "box_reg_loss_type",
        "loss_weight",
        "box2box_transform",
    ]:
        assert hasattr(predictor, name), name
    assert isinstance(predictor.cls_score, torch.nn.Linear)
    assert isinstance(predictor.bbox_pred, torch.nn.Linear)
    assert isinstance(predictor.loss_weight, dict)
    assert len(predictor.box2box_transform.weights) == 4


def test_roi_heads_keep_what_the_region_tap_switches():
    """engine/region_tap.py turns the mask head off through this attribute."""
    for heads in (StandardROIHeads, Res5ROIHeads):
        assert "self.mask_on" in inspect.getsource(heads)


def test_trainer_is_assembled_as_ours_is():
    """engine/trainer.py sets what DefaultTrainer.__init__ sets."""
    source = inspect.getsource(engine.DefaultTrainer.__init__)
    for name in ("_trainer", "scheduler", "checkpointer", "start_iter", "max_iter", "cfg"):
        assert f"self.{name} = " in source, name
    assert isinstance(engine.DefaultTrainer.model, property)
    assert callable(engine.TrainerBase.load_state_dict)
    assert "optimizer" in inspect.getsource(engine.SimpleTrainer.state_dict)


def test_local_group_can_be_set():
    """engine/launch.py, under torchrun."""
    assert hasattr(comm, "create_local_process_group") or hasattr(comm, "_LOCAL_PROCESS_GROUP")


@pytest.mark.parametrize("detector", [RetinaNet, FCOS])
def test_normalizer_comes_from_the_moving_average(detector):
    """modeling/dense_losses.py takes it from there."""
    assert 'self._ema_update("loss_normalizer", max(num_pos_anchors, 1), ' in inspect.getsource(
        detector.losses
    )


def test_predictor_without_regions_is_why_ours_catches_them():
    """Detectron2 fails on an empty list of proposals; if it stops to, our branch can go."""
    predictor = FastRCNNOutputLayers(
        ShapeSpec(channels=4), box2box_transform=Box2BoxTransform((1.0, 1, 1, 1)), num_classes=3
    )
    with EventStorage(), pytest.raises((IndexError, RuntimeError)):
        predictor.losses(predictor(torch.zeros(0, 4)), [])
