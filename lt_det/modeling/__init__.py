"""Detectron2 modules: box predictors, ROI heads, backbones. Importing it registers them."""

import lt_det.detectron2_required  # noqa: F401  # isort: skip

# Registers models, heads and backbones; timm itself is imported where one is built.
from lt_det.modeling.backbones import cifar_resnet, timm_backbone
from lt_det.modeling.classifiers import image_classifier
from lt_det.modeling.dense import retinanet
from lt_det.modeling.roi import mask_head, roi_heads

__all__ = [
    "cifar_resnet",
    "image_classifier",
    "mask_head",
    "retinanet",
    "roi_heads",
    "timm_backbone",
]
