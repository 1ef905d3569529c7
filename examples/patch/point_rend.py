"""Balanced Softmax in Detectron2's project PointRend."""

from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.projects import point_rend
from one_step import STATS, check, shrink

cfg = get_cfg()
point_rend.add_pointrend_config(cfg)
shrink(cfg, num_classes=STATS.num_classes).MODEL.POINT_HEAD.NUM_CLASSES = STATS.num_classes
cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "PointRendMaskHead", ""
cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON, cfg.MODEL.ROI_MASK_HEAD.FC_DIM = True, 64

check(build_model(cfg), "balanced_softmax", stats=STATS)
