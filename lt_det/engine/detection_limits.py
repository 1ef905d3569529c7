"""Say beside every AP what it was measured with: NMS, score threshold, detections an image.

With several NMS thresholds all are evaluated in one pass: what a detector computes up to its
proposals is computed once an image, the rest once for each threshold.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)

# What comes before the boxes, in all detectors of Detectron2; the outputs are never changed.
_SHARED = ("backbone", "proposal_generator")
_SHOWN = ("AP", "APr", "APc", "APf")


@dataclass(frozen=True)
class DetectionLimits:
    """Limits of the detections of an image; None where the model does not say.

    Attributes:
        nms_threshold: IoU above which the better of two boxes of a class is kept.
        score_threshold: detections score higher.
        most_detections: kept of an image.
    """

    nms_threshold: float | None = None
    score_threshold: float | None = None
    most_detections: int | None = None

    @classmethod
    def of_model(cls, model: nn.Module) -> DetectionLimits:
        """Return those of the first box predictor or dense detector in ``model``."""
        for module in model.modules():
            if _is_limited(module):
                most: Any = getattr(module, "test_topk_per_image", None)
                most = getattr(module, "max_detections_per_image", None) if most is None else most
                score: Any = getattr(module, "test_score_thresh", None)
                return cls(
                    _number(module.test_nms_thresh),
                    _number(score),
                    int(most) if isinstance(most, int) else None,
                )
        return cls()

    def text(self, found: float) -> str:
        """Return a phrase for the log.

        Args:
            found: detections an image, on average.
        """
        parts = [
            f"NMS threshold {_shown(self.nms_threshold)}",
            f"score threshold {_shown(self.score_threshold)}",
            f"{found:.1f} detections an image",
        ]
        return ", ".join(parts) + (
            "" if self.most_detections is None else f" (at most {self.most_detections})"
        )


def _is_limited(module: nn.Module) -> bool:
    return _number(getattr(module, "test_nms_thresh", None)) is not None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


def suffix(threshold: float) -> str:
    """Return what follows the keys of results with another NMS threshold, such as "_nms0.3"."""
    return f"_nms{threshold:g}"


class LimitedEvaluator(DatasetEvaluator):
    """Evaluator that counts detections, and evaluates other NMS thresholds beside its own.

    Attributes:
        protocol: key of the results -> limits and the mean detections an image; after evaluation.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluator: DatasetEvaluator,
        others: Mapping[float, DatasetEvaluator] | None = None,
        *,
        protocol: dict[str, Any] | None = None,
    ) -> None:
        """Hold evaluators of one data set.

        Args:
            model: the detector, whose regular detections ``evaluator`` gets.
            evaluator: of the model's own NMS threshold; its results keep their keys.
            others: of other thresholds; their results have keys such as "bbox_nms0.3".
            protocol: see above; filled in place.

        Raises:
            ValueError: if there are others, and the model has no NMS threshold that could be set.
        """
        self._model, self._limits = model, DetectionLimits.of_model(model)
        self._others: dict[float | None, DatasetEvaluator] = dict((others or {}).items())
        if self._others and self._limits.nms_threshold is None:
            raise ValueError(
                f"LT_DET.EVAL.NMS_THRESHOLDS: no part of {type(model).__name__} has the attribute "
                "test_nms_thresh, as the detectors of Detectron2 have; set it () for this model"
            )
        if not isinstance(evaluator, DatasetEvaluator):  # a list, which Detectron2 takes as well
            evaluator = DatasetEvaluators(evaluator)
        self._evaluators: dict[float | None, DatasetEvaluator] = {None: evaluator}
        self._evaluators.update(self._others)
        self.protocol = {} if protocol is None else protocol
        self._reset_counts()

    def _reset_counts(self) -> None:
        self._images, self._detections = 0, dict.fromkeys(self._evaluators, 0)

    def reset(self) -> None:
        """Forget all predictions."""
        self._reset_counts()
        for evaluator in self._evaluators.values():
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        """Hand a batch on, and detect in it again with each of the other thresholds.

        Args:
            inputs: as the model takes them.
            outputs: its detections with its own threshold.
        """
        self._images += len(inputs)
        self._add(None, inputs, outputs)
        if self._others:
            with _reused(self._model):
                for threshold in self._others:
                    assert threshold is not None
                    with nms_threshold(self._model, threshold):
                        self._add(threshold, inputs, self._model(inputs))

    def _add(self, threshold: float | None, inputs: Any, outputs: Any) -> None:
        for output in outputs:
            if isinstance(output, Mapping) and "instances" in output:
                self._detections[threshold] += len(output["instances"])
        self._evaluators[threshold].process(inputs, outputs)

    def evaluate(self) -> OrderedDict[str, Any]:
        """Return the results of all thresholds, and log each with its limits."""
        counts = comm.all_gather((self._images, self._detections))
        images = sum(number for number, _ in counts)
        results: OrderedDict[str, Any] = OrderedDict()
        for threshold, evaluator in self._evaluators.items():
            limits = self._limits
            if threshold is not None:
                limits = replace(limits, nms_threshold=threshold)
            found = sum(of_rank[threshold] for _, of_rank in counts) / max(images, 1)
            for task, metrics in (evaluator.evaluate() or {}).items():
                key = task if threshold is None else task + suffix(threshold)
                results[key] = metrics
                if limits != DetectionLimits():
                    self.protocol[key] = {**asdict(limits), "detections_per_image": found}
                    if comm.is_main_process():
                        logger.info("%s: %s; %s", key, _summary(metrics), limits.text(found))
        return results


def _summary(metrics: Any) -> str:
    if not isinstance(metrics, Mapping):
        return str(metrics)
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in _SHOWN if name in metrics)


@contextlib.contextmanager
def nms_threshold(model: nn.Module, threshold: float) -> Iterator[None]:
    """Detect with another NMS threshold for the time of the block."""
    had = [(m, m.test_nms_thresh) for m in model.modules() if _is_limited(m)]
    try:
        for module, _ in had:
            module.test_nms_thresh = threshold  # type: ignore[assignment]
        yield
    finally:
        for module, value in had:
            module.test_nms_thresh = value


class _Kept:
    """Forward of a module that keeps its last output, and gives it again where asked to."""

    def __init__(self, module: nn.Module) -> None:
        self._forward, self._output, self.is_reused = module.forward, None, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.is_reused:
            self._output = self._forward(*args, **kwargs)
        return self._output


def _shared_parts(model: nn.Module) -> list[nn.Module]:
    parts = [getattr(m, name, None) for m in model.modules() for name in _SHARED]
    return [part for part in parts if isinstance(part, nn.Module)]


@contextlib.contextmanager
def _keeping(model: nn.Module) -> Iterator[None]:
    """Keep the last outputs of what comes before the boxes for the time of the block."""
    parts = _shared_parts(model)
    try:
        for part in parts:
            part.__dict__["forward"] = _Kept(part)
        yield
    finally:
        for part in parts:
            del part.__dict__["forward"]


@contextlib.contextmanager
def _reused(model: nn.Module) -> Iterator[None]:
    kept: list[Any] = [part.__dict__["forward"] for part in _shared_parts(model)]
    try:
        for forward in kept:
            forward.is_reused = True
        yield
    finally:
        for forward in kept:
            forward.is_reused = False


@contextlib.contextmanager
def limited(trainer: Any, cfg: Any, model: nn.Module) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield a trainer class whose evaluators say their limits, and where the protocols will be.

    The latter are those of each key of the results, with several data sets by their name.

    Args:
        trainer: class with ``build_evaluator(cfg, dataset_name, output_folder)``.
        cfg: config.
        model: that is evaluated.
    """
    thresholds = [float(t) for t in cfg.LT_DET.EVAL.NMS_THRESHOLDS]
    several = len(cfg.DATASETS.TEST) > 1
    protocols: dict[str, Any] = {}

    def build_evaluator(_class: Any, cfg: Any, name: str) -> LimitedEvaluator:
        own, others = trainer.build_evaluator(cfg, name), {}
        for threshold in thresholds:
            if threshold != DetectionLimits.of_model(model).nms_threshold:
                parts = ["inference", *([name] if several else []), suffix(threshold).strip("_")]
                folder = os.path.join(cfg.OUTPUT_DIR, *parts)
                others[threshold] = trainer.build_evaluator(cfg, name, folder)
        protocol = protocols.setdefault(name, {}) if several else protocols
        return LimitedEvaluator(model, own, others, protocol=protocol)

    of_trainer = {"build_evaluator": classmethod(build_evaluator)}
    with _keeping(model) if thresholds else contextlib.nullcontext():
        yield type(trainer.__name__, (trainer,), of_trainer), protocols


def check_nms_thresholds(thresholds: Sequence[Any], *, is_detector: bool) -> None:
    """Raise if LT_DET.EVAL.NMS_THRESHOLDS cannot be used.

    Raises:
        ValueError: names the key, and what was expected.
    """
    key = "LT_DET.EVAL.NMS_THRESHOLDS"
    if thresholds and not is_detector:
        raise ValueError(f"{key} is for detectors: set it () for image classification")
    for value in thresholds:
        if _number(value) is None or not 0 < value <= 1:
            raise ValueError(
                f"{key}: expected overlaps above 0 and at most 1, such as (0.3, 0.5), got {value!r}"
            )
