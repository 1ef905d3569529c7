"""Balanced Softmax in the LazyConfig of the zoo's new_baselines."""

from detectron2 import model_zoo
from detectron2.config import instantiate
from one_step import STATS, check

cfg = model_zoo.get_config("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")
cfg.model.backbone.bottom_up.stages.norm = cfg.model.backbone.bottom_up.stem.norm = "BN"
cfg.model.backbone.norm = "BN"  # SyncBN is for GPUs
cfg.model.roi_heads.box_head.conv_norm = cfg.model.roi_heads.mask_head.conv_norm = "BN"
cfg.model.roi_heads.num_classes, cfg.model.roi_heads.batch_size_per_image = STATS.num_classes, 16
cfg.model.backbone.bottom_up.stages.depth = 18
del cfg.model.backbone.bottom_up.stages.stride_in_1x1  # of bottleneck blocks

check(instantiate(cfg.model), "balanced_softmax", stats=STATS)
