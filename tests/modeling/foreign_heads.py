"""Box predictors as other projects write them, for tests of patching."""

from __future__ import annotations

import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from torch import Tensor, nn
from torch.nn import functional as F


class SquaredScores(FastRCNNOutputLayers):
    """Its own forward (a third output), scores, inference; extra buffer and loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.objectness = nn.Linear(self.cls_score.in_features, 1)
        self.register_buffer("frequency", torch.ones(self.num_classes))

    def forward(self, x):
        scores, deltas = super().forward(x)
        return scores, deltas, self.objectness(x.flatten(1))

    def losses(self, predictions, proposals):
        losses = super().losses(predictions[:2], proposals)
        return {**losses, "loss_object": predictions[2].square().mean() + predictions[0].mean()}

    def predict_boxes(self, predictions, proposals):
        return super().predict_boxes(predictions[:2], proposals)

    def predict_probs(self, predictions, proposals):
        scores, _, objectness = predictions
        probs = scores.softmax(dim=1) * objectness.sigmoid()
        return probs.sqrt().split([len(p) for p in proposals])

    def inference(self, predictions, proposals):
        boxes, scores = (
            f(predictions, proposals) for f in (self.predict_boxes, self.predict_probs)
        )
        shapes = [p.image_size for p in proposals]
        return fast_rcnn_inference(boxes, [s**0.5 for s in scores], shapes, 0.0, 0.6, 7)


class ZeroShot(nn.Module):
    """Class embeddings that are not learned, times learned features; the background's are 0."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(in_features, 8)
        embeddings = F.normalize(torch.randn(8, num_classes + 1), dim=0)
        embeddings[:, -1] = 0
        self.register_buffer("embeddings", embeddings)

    def forward(self, x, classifier=None):
        weights = self.embeddings if classifier is None else classifier
        return 50 * F.normalize(self.linear(x), dim=1) @ weights


class SequentialLayers(FastRCNNOutputLayers):
    """Sigmoid scores of K + 1 columns, both branches no plain layer, more arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        size = self.cls_score.in_features
        self.cls_score = ZeroShot(size, self.num_classes)
        self.bbox_pred = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 4))

    def forward(self, x, info=(None,)):
        scores = torch.cat([self.cls_score(x.flatten(1), classifier=info[0])], dim=1)
        return scores, self.bbox_pred(x.flatten(1))

    def losses(self, predictions, proposals, use_advanced=True, info=(None,)):  # noqa: ARG002
        labels = torch.cat([p.gt_classes for p in proposals])
        targets = F.one_hot(labels, self.num_classes + 1)[:, :-1].float()
        loss = F.binary_cross_entropy_with_logits(predictions[0][:, :-1], targets)
        return {**super().losses(predictions, proposals), "loss_cls": loss}

    def predict_probs(self, predictions, proposals):
        return predictions[0].sigmoid().split([len(p) for p in proposals])


class Cosine(FastRCNNOutputLayers):
    """Scaled cosine without a bias, the weights normalised in forward, a learned scale."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cls_score = nn.Linear(self.cls_score.in_features, self.num_classes + 1, bias=False)
        self.scale = nn.Parameter(torch.full((1,), 20.0))

    def forward(self, x):
        x = x.flatten(1)
        weight = self.cls_score.weight.data
        if not torch.allclose(weight.norm(dim=1), torch.ones(len(weight))):
            self.cls_score.weight.data = F.normalize(weight, dim=1)
        return self.scale * self.cls_score(F.normalize(x, dim=1)), self.bbox_pred(x)


class OldPredictor(nn.Module):
    """Logits and deltas, nothing else: the losses are in the heads, as before Detectron2 0.2."""

    def __init__(self, size: int, num_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(size, num_classes + 1)
        self.bbox_pred = nn.Linear(size, num_classes * 4)

    def forward(self, x: Tensor):
        return self.cls_score(x), self.bbox_pred(x)


class OldHeads(StandardROIHeads):
    """Losses of an :class:`OldPredictor`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        stock = self.box_predictor
        self.box_predictor = OldPredictor(stock.cls_score.in_features, self.num_classes)
        self.__dict__["stock"] = stock

    def _forward_box(self, features, proposals):
        pooled = self.box_pooler(
            [features[f] for f in self.box_in_features], [p.proposal_boxes for p in proposals]
        )
        predictions = self.box_predictor(self.box_head(pooled))
        if self.training:
            return self.stock.losses(predictions, proposals)
        return self.stock.inference(predictions, proposals)[0]


FOREIGN = {"squared": SquaredScores, "sequential": SequentialLayers, "cosine": Cosine}


def with_foreign_predictors(model: nn.Module, kind: str) -> nn.Module:
    """Put a foreign predictor in the place of each of Detectron2's; return the model."""
    heads = model.roi_heads

    def foreign(stock: nn.Module) -> nn.Module:
        return FOREIGN[kind](
            stock.cls_score.in_features,
            box2box_transform=stock.box2box_transform,
            num_classes=stock.num_classes,
            test_topk_per_image=stock.test_topk_per_image,
            cls_agnostic_bbox_reg=stock.bbox_pred.out_features == 4,
            loss_weight=stock.loss_weight,
        )

    stock = heads.box_predictor
    cascade = isinstance(stock, nn.ModuleList)
    heads.box_predictor = nn.ModuleList(map(foreign, stock)) if cascade else foreign(stock)
    return model
