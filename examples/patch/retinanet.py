"""Balanced Sigmoid in the zoo's RetinaNet, with the post-processing of lt_det."""

from detectron2 import model_zoo
from detectron2.modeling import build_model
from one_step import STATS, check

cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH = "", "cpu", 18
cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RETINANET.NUM_CLASSES = 64, STATS.num_classes

check(build_model(cfg), "balanced_sigmoid", stats=STATS, post_processing=True)
