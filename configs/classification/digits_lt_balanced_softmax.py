"""Image classification as a LazyConfig: what Detectron2's own lazyconfig_train_net.py takes.

python lazyconfig_train_net.py --config-file configs/classification/digits_lt_balanced_softmax.py
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf
from torch import nn

from lt_det.data.annotations.datasets import class_stats_of
from lt_det.data.images.datasets import register_image_dataset
from lt_det.data.images.transforms import ImageBatchMapper
from lt_det.evaluation.classification.evaluator import ClassificationEvaluator
from lt_det.losses.criterion import Criterion
from lt_det.modeling.backbones.cifar_resnet import CifarResNet
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier

TRAIN, TEST, STEPS = "lazy_digits_lt_train", "lazy_digits_test", 200
register_image_dataset(TRAIN, "digits", "", "train", imbalance_factor=20)
register_image_dataset(TEST, "digits", "", "test")
stats = class_stats_of(TRAIN)

model = L(LongTailImageClassifier)(
    backbone=L(CifarResNet)(depth=8, width=8),
    cls_score=L(nn.Linear)(in_features=32, out_features=stats.num_classes),
    criterion=L(Criterion)(
        name="balanced_softmax", class_counts=[float(n) for n in stats.counts()]
    ),
    pixel_mean=[78.0, 78.0, 78.0],
    pixel_std=[96.0, 96.0, 96.0],
)

dataloader = OmegaConf.create()
# The mapper sees whole batches, so it is what collates them.
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names=TRAIN),
    mapper=None,
    collate_fn=L(ImageBatchMapper)(size=8, padding=1, random_crop=True),
    total_batch_size=32,
    aspect_ratio_grouping=False,
    num_workers=0,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names=TEST),
    mapper=None,
    collate_fn=L(ImageBatchMapper)(size=8),
    batch_size=100,
    num_workers=0,
)
dataloader.evaluator = L(ClassificationEvaluator)(
    class_names=list(stats.class_names), class_stats=L(class_stats_of)(dataset_names=TRAIN)
)

optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr, optimizer.weight_decay = 0.1, 5e-4
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=0.1,
    warmup_factor=0.01,
)
train = model_zoo.get_config("common/train.py").train
train.max_iter = train.eval_period = STEPS
train.init_checkpoint, train.output_dir = "", "output/digits_lt_balanced_softmax_lazy"
