"""Balanced Softmax in the zoo's Mask R-CNN, a yaml."""

from detectron2 import model_zoo
from detectron2.modeling import build_model
from one_step import STATS, check

from lt_det.modeling.patching import create_loss

cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH = "", "cpu", 18
cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.ROI_HEADS.NUM_CLASSES = 64, STATS.num_classes

check(build_model(cfg), create_loss("balanced_softmax", STATS, tau=1.0))
