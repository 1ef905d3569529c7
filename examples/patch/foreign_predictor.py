"""Balanced Softmax in a box predictor with a forward of its own."""

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from one_step import STATS, check, shrink


class Cosine(FastRCNNOutputLayers):
    """Twenty times the cosine, where Detectron2 has a linear layer."""

    def forward(self, x):  # noqa: D102
        weight = torch.nn.functional.normalize(self.cls_score.weight, dim=1)
        return 20 * torch.nn.functional.normalize(x, dim=1) @ weight.T, self.bbox_pred(x)


cfg = shrink(get_cfg(), num_classes=STATS.num_classes)
model = build_model(cfg)
model.roi_heads.box_predictor = Cosine(cfg, model.roi_heads.box_head.output_shape)
check(model, "balanced_softmax", stats=STATS)
