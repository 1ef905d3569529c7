"""Fast R-CNN output layers with any loss of the loss table.

Shape shorthand: R regions of the batch, K foreground classes; label K is the background.
Box regression, detections and parameter names are those of Detectron2, so its checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.build import build_criterion, build_prior
from lt_det.modeling.classifiers.build_posthoc import build_post_hoc
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.classifiers.layers import set_prior_bias
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.postprocessing.choice import is_ours_wanted
from lt_det.modeling.postprocessing.roi import predict_detections
from lt_det.modeling.roi.box_regression import ByClassBoxRegression, Predictions, all_classes
from lt_det.modeling.roi.classification_stats import log_classification_stats
from lt_det.modeling.roi.classifier_rows import box_classifier, take_rows


class LongTailOutputLayers(ClassificationHead, ByClassBoxRegression):
    """Base of the softmax and the sigmoid predictor; use one of those.

    Attributes:
        fast_inference: find the detections by our code (True), by Detectron2's (False), or by
            ours on a CPU (None).
    """

    kind: str
    fast_inference: bool | None = None

    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        criterion: BaseCriterion,
        post_hoc: PostHocCorrection | None = None,
        fast_inference: bool | None = None,
        cosine_scale: float | None = None,
        disalign: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build Detectron2's layers.

        Args:
            input_shape: shape of the box head's output.
            criterion: the loss.
            post_hoc: correction of the logits at inference.
            fast_inference: see above.
            cosine_scale: makes ``cls_score`` a cosine classifier of this scale.
            disalign: makes it a frozen classifier with a learned calibration.
            kwargs: see :class:`FastRCNNOutputLayers`.

        Raises:
            ValueError: if the criterion is of another kind, or a loss of Detectron2's is chosen.
        """
        if criterion.kind != self.kind:
            raise ValueError(
                f"{type(self).__name__} needs a loss of kind {self.kind!r}, got "
                f"{criterion.name!r} of kind {criterion.kind!r} (LT_DET.LOSS)"
            )
        for name in ("use_sigmoid_ce", "use_fed_loss"):
            if kwargs.get(name):
                raise ValueError(
                    f"MODEL.ROI_BOX_HEAD.{name.upper()} chooses a loss of Detectron2's own "
                    "head; here LT_DET.LOSS does: use LT_DET.LOSS 'sigmoid_ce', or Detectron2's "
                    "head"
                )
        super().__init__(input_shape, **kwargs)
        self.criterion, self.post_hoc = criterion, post_hoc
        self._others = criterion.extra_columns(background=True)
        self.has_background = "background" in self._others
        criterion.fit_head(self.num_classes, background=True)
        self.fast_inference = fast_inference
        k, stock = self.num_classes, self.cls_score
        keys: dict[str, Any] = {"cosine_scale": cosine_scale, "disalign": disalign}
        self.cls_score = box_classifier(stock, self._others, num_classes=k, **keys)

    @property
    def num_other_columns(self) -> int:
        """Number of the logits' columns after those of the K classes."""
        return len(self._others)

    def _take_rows(self, stock: Any, *, names: Sequence[str] = ("weight", "bias")) -> None:
        k, others = self.num_classes, self._others
        take_rows(self.cls_score, stock, others, num_classes=k, names=names)

    @classmethod
    def _build_keywords(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments that ``cfg`` says, those of Detectron2 included.

        Raises:
            ValueError: if LT_DET.CLASSIFIER.NAME is unknown.
        """
        node = cfg.LT_DET
        if node.CLASSIFIER.NAME not in ("linear", "cosine"):
            raise ValueError(
                f"LT_DET.CLASSIFIER.NAME must be 'linear' or 'cosine', got {node.CLASSIFIER.NAME!r}"
            )
        return {
            **FastRCNNOutputLayers.from_config(cfg, input_shape),
            "criterion": build_criterion(cfg),
            "post_hoc": build_post_hoc(cfg),
            "fast_box_regression": node.FAST_BOX_REGRESSION,
            "fast_inference": node.FAST_INFERENCE,
            "cosine_scale": node.CLASSIFIER.SCALE if node.CLASSIFIER.NAME == "cosine" else None,
            "disalign": node.CLASSIFIER.DISALIGN,
        }

    def losses(self, predictions: Predictions, proposals: list[Instances]) -> dict[str, Tensor]:
        """Return "loss_cls" and "loss_box_reg", both scalars, and log Detectron2's statistics.

        Args:
            predictions: logits and box deltas of :meth:`forward`.
            proposals: with fields ``proposal_boxes``, ``gt_classes`` and, where there is
                foreground, ``gt_boxes``.
        """
        logits, deltas = predictions
        sizes = [len(p) for p in proposals]
        if sum(sizes):
            labels = torch.cat([p.gt_classes for p in proposals])
            predicted = self._predicted_classes(logits.detach())
            log_classification_stats(predicted, labels, num_classes=self.num_classes)
            loss_box_reg = self.box_loss(deltas, labels, proposals)
        else:
            # Detectron2 fails on no regions (its empty labels are float): zero, with a graph.
            labels = torch.zeros(0, dtype=torch.int64, device=logits.device)
            loss_box_reg = all_classes(predictions)[1].sum() * 0.0
        return {
            "loss_cls": self.classification_loss(logits, labels, regions_per_image=sizes),
            "loss_box_reg": loss_box_reg * self.loss_weight.get("loss_box_reg", 1.0),
        }

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of each image, and the proposal that each comes from."""
        predictions = all_classes(predictions)
        if is_ours_wanted(self.fast_inference, predictions[0].device):
            return predict_detections(self, predictions, proposals)
        return super().inference(predictions, proposals)

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[Tensor, ...]:
        """Return, for each image, ``(Ri, K + 1)`` scores in [0, 1], post-hoc corrections applied.

        Args:
            predictions: logits and box deltas of :meth:`forward`.
            proposals: one item an image.
        """
        logits, _ = predictions
        scores = self.criterion.scores(self.inference_logits(logits))
        if scores.shape[1] == self.num_classes:
            scores = torch.cat([scores, scores.new_zeros(scores.shape[0], 1)], dim=1)
        return scores.split([len(p) for p in proposals], dim=0)

    def _predicted_classes(self, logits: Tensor) -> Tensor:
        """Return ``(R,)`` int64 in [0, K], K = background."""
        raise NotImplementedError

    def adopt(self, stock: FastRCNNOutputLayers) -> None:
        """Take over the parameters of Detectron2's predictor with the same classes, in place."""
        raise NotImplementedError


class SoftmaxOutputLayers(LongTailOutputLayers):
    """Output layers with K + 1 logits, background last, and any softmax-kind loss.

    Where a loss has other columns beside those of the classes, there are these instead.
    """

    kind = "softmax"

    @configurable
    def __init__(
        self, input_shape: ShapeSpec | int, *, criterion: BaseCriterion, **kwargs: Any
    ) -> None:
        """Build Detectron2's layers and hold ``criterion``.

        Args:
            input_shape: shape of the box head's output.
            criterion: loss of kind "softmax".
            kwargs: see :class:`LongTailOutputLayers`.

        Raises:
            ValueError: if the criterion is of another kind.
        """
        super().__init__(input_shape, criterion=criterion, **kwargs)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read Detectron2's keys, LT_DET.LOSS, CLASSIFIER and POST_HOC."""
        return cls._build_keywords(cfg, input_shape)

    def _predicted_classes(self, logits: Tensor) -> Tensor:
        plain = self.criterion.scoring(background=True) == "softmax"
        return (logits if plain else self.criterion.scores(logits)).argmax(dim=1)

    def adopt(self, stock: FastRCNNOutputLayers) -> None:
        """Take over all parameters of Detectron2's predictor, in place.

        Columns that it has not keep their own start.
        """
        if stock.cls_score.weight.shape == self.cls_score.weight.shape:
            self.load_state_dict(stock.state_dict())
            return
        self.bbox_pred.load_state_dict(stock.bbox_pred.state_dict())
        self._take_rows(stock.cls_score)


class SigmoidOutputLayers(LongTailOutputLayers):
    """Output layers with K logits, no background, and any sigmoid-kind loss.

    Where a loss has a column for the background, it is the last, and starts from bias 0.

    (Detectron2's ``use_sigmoid_ce`` has K + 1 columns, of which the last is never trained, and
    starts from bias 0, i.e. from a loss of about K ln 2.)
    """

    kind = "sigmoid"

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        criterion: BaseCriterion,
        prior_prob: float = 0.001,
        prior_counts: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """Build Detectron2's layers with K logits and hold ``criterion``.

        Args:
            input_shape: shape of the box head's output.
            criterion: loss of kind "sigmoid".
            prior_prob: score of every class at the start, in (0, 1); 0.001 is BALMS's release.
            prior_counts: ``(K,)`` class counts; if given, the starting scores are in proportion
                to them, see :func:`~lt_det.modeling.classifiers.layers.class_prior_bias`.
            kwargs: see :class:`LongTailOutputLayers`.

        Raises:
            ValueError: if the criterion is of another kind, or ``prior_prob`` not in (0, 1).
        """
        super().__init__(input_shape, criterion=criterion, **kwargs)
        with torch.no_grad():
            bias = self.cls_score.bias[: self.num_classes]
            link = criterion.logit_of
            set_prior_bias(bias, prior_prob=prior_prob, prior_counts=prior_counts, logit_of=link)
            self.cls_score.bias[self.num_classes :] = 0.0

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read Detectron2's keys, LT_DET.LOSS, CLASSIFIER, POST_HOC, PRIOR and PRIOR_PROB."""
        return {**cls._build_keywords(cfg, input_shape), **build_prior(cfg)}

    def _predicted_classes(self, logits: Tensor) -> Tensor:
        # Logit 0 is score 1/2: a region counts as background where no class reaches that.
        lowest = 0.0
        if self.criterion.scoring(background=True) != "sigmoid":
            logits, lowest = self.criterion.scores(logits), 0.5
        highest, classes = logits[:, : self.num_classes].max(dim=1)
        return classes.masked_fill(highest < lowest, self.num_classes)

    def adopt(self, stock: FastRCNNOutputLayers) -> None:
        """Take over the box regression and the weights of the rows that both have, in place.

        The bias keeps its prior: Detectron2's is a softmax's and means something else here. From
        another predictor of this class all is taken over.
        """
        if isinstance(stock, SigmoidOutputLayers):
            self.load_state_dict(stock.state_dict())
            return
        self.bbox_pred.load_state_dict(stock.bbox_pred.state_dict())
        self._take_rows(stock.cls_score, names=("weight",))
