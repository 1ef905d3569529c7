"""Run a box predictor on random features to find its logits and the layer that makes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from lt_det.modeling.patching.loss import Scoring

_REGIONS = 3
#: Two functions of the same logits differ by rounding only.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Findings:
    """Findings of a trial of a box predictor.

    Attributes:
        index: place of the logits in what ``forward`` returns; None: it returns nothing else.
        columns: of the logits.
        classifier: name of the submodule that gives the logits from ``(R, D)`` features; "" if
            the predictor does more to them.
        parameters: names of the predictor's parameters that the logits depend on.
        loss_key: name of the classification loss among the predictor's losses; None if it has no
            ``losses``.
        scoring: how ``predict_probs`` makes scores of logits; None where that is not known.
    """

    index: int | None
    columns: int
    classifier: str
    parameters: tuple[str, ...]
    loss_key: str | None
    scoring: Scoring | None


def try_predictor(
    predictor: nn.Module, *, num_classes: int, features: Sequence[Sequence[int]], where: str
) -> Findings:
    """Return what a copy of ``predictor`` does with random features; the random state is kept.

    Args:
        predictor: gives logits, or a tuple with them, for ``(R, ...)`` features.
        num_classes: K.
        features: shapes of one region's features to try, best guess first.
        where: name of the predictor, for messages.

    Raises:
        ValueError: if no logits with K or K + 1 columns are found.
    """
    first = next(predictor.parameters(), None)
    if first is None:
        raise ValueError(f"the logits of {where} cannot be found: it has no parameters")
    devices = [first.device] if first.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), EventStorage():
        trial, x = _first_that_runs(predictor, features, where=where)
        with _outputs(trial) as outputs:
            predictions = trial(x)
        index = _place_of_logits(trial, predictions, num_classes, where=where)
        logits = predictions if index is None else predictions[index]
        names, parameters = zip(*trial.named_parameters())
        gradients = torch.autograd.grad(
            logits.sum(), parameters, allow_unused=True, retain_graph=True
        )
        return Findings(
            index=index,
            columns=logits.shape[1],
            classifier=_classifier(outputs, logits),
            parameters=tuple(n for n, g in zip(names, gradients) if g is not None),
            loss_key=_loss_key(trial, predictions, num_classes=num_classes, where=where),
            scoring=_scoring(trial, predictions, index, num_classes=num_classes),
        )


def _first_that_runs(
    predictor: nn.Module, features: Sequence[Sequence[int]], *, where: str
) -> tuple[nn.Module, Tensor]:
    """Return a copy of ``predictor`` in evaluation, and features that it takes."""
    first = next(predictor.parameters())
    # All parameters, also those that are frozen now.
    try:
        trial = copy.deepcopy(predictor).eval().requires_grad_(True)
    except Exception as error:  # of code that is not ours
        raise ValueError(
            f"the logits of {where} cannot be found: it cannot be copied to try it "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]}). Of "
            "torch.nn.utils.weight_norm take the one in torch.nn.utils.parametrizations"
        ) from error
    for module in trial.modules():
        module._forward_hooks.clear()  # somebody's notes are not of random features
    reason = "the size of its features is not known"
    for shape in features:
        x = torch.randn(_REGIONS, *shape, device=first.device, dtype=first.dtype)
        try:
            trial(x)
            return trial, x
        except Exception as error:  # of code that is not ours
            reason = f"forward(features) of {tuple(shape)} raised {type(error).__name__}: {error}"
    raise ValueError(
        f"the logits of {where} cannot be found: {reason}. Its forward must take the features of "
        "the regions alone"
    )


def _place_of_logits(
    trial: nn.Module, predictions: Any, num_classes: int, *, where: str
) -> int | None:
    def fits(value: Any) -> bool:
        columns = (num_classes, num_classes + 1)
        return isinstance(value, Tensor) and value.dim() == 2 and value.shape[1] in columns

    if fits(predictions):
        return None
    if isinstance(predictions, (tuple, list)):
        places = [i for i, value in enumerate(predictions) if fits(value)]
        if len(places) > 1:
            # Boxes have four columns, as many as 3 or 4 classes.
            places = _used_by_loss(trial, predictions, places, num_classes, where) or places
        if 0 in places or len(places) == 1:
            return places[0]  # Detectron2's order
        found: Any = [_summary(value) for value in predictions]
    else:
        found = _summary(predictions)
    raise ValueError(
        f"the logits of {where} cannot be found: for {_REGIONS} regions its forward gives {found}, "
        f"expected one tensor ({_REGIONS}, {num_classes}) or ({_REGIONS}, {num_classes + 1})"
    )


def _used_by_loss(
    trial: Any, predictions: Any, places: Sequence[int], num_classes: int, where: str
) -> list[int]:
    """Return the places that the predictor's classification loss depends on; [] if not known."""
    tensors = [predictions[i] for i in places]
    try:
        losses = trial.losses(predictions, [_proposals(tensors[0], num_classes=num_classes)])
        loss = losses[classification_key(losses, where=where)]
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=True)
    except Exception:  # of code that is not ours
        return []
    return [i for i, gradient in zip(places, gradients) if gradient is not None]


def _summary(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _outputs(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect what submodules with one tensor in and one out give, by name, outer ones first."""
    outputs: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                outputs[name] = output

        return hook

    named = [(name, child) for name, child in module.named_modules() if name]
    handles = [child.register_forward_hook(note(name)) for name, child in named]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _classifier(outputs: Mapping[str, Tensor], logits: Tensor) -> str:
    same = [n for n, v in outputs.items() if v.shape == logits.shape and torch.equal(v, logits)]
    return min(same, key=lambda name: name.count("."), default="")


def _proposals(tensor: Tensor, *, num_classes: int) -> Instances:
    """Return as many regions as the trial has: two of foreground, one of background."""
    proposals = Instances((64, 64))
    boxes = tensor.new_tensor([[4.0, 4, 36, 40], [30, 10, 60, 50], [8, 30, 28, 60]]).float()
    proposals.proposal_boxes = Boxes(boxes)
    proposals.objectness_logits = boxes.new_ones(_REGIONS)
    proposals.gt_boxes = Boxes(boxes + 1)
    proposals.gt_classes = torch.tensor([0, num_classes - 1, num_classes], device=tensor.device)
    return proposals


def _loss_key(trial: nn.Module, predictions: Any, *, num_classes: int, where: str) -> str | None:
    if not callable(getattr(trial, "losses", None)):
        return None
    tensor = next(trial.parameters())
    try:
        losses = trial.losses(predictions, [_proposals(tensor, num_classes=num_classes)])
    except Exception:  # of code that is not ours; its keys are looked at in training
        return "loss_cls"
    return classification_key(losses, where=where)


def classification_key(losses: Any, *, where: str) -> str:
    """Return the name of the classification loss among ``losses``.

    Raises:
        ValueError: if none, or several, could be meant.
    """
    keys = list(losses) if isinstance(losses, Mapping) else []
    if "loss_cls" in keys:
        return "loss_cls"
    keys_of_classes = [key for key in keys if "cls" in key or "class" in key]
    if len(keys_of_classes) == 1:
        return keys_of_classes[0]
    raise ValueError(
        f"the classification loss of {where} cannot be found: its losses are {keys}, expected "
        "'loss_cls' or one name with 'cls' in it"
    )


def _scoring(
    trial: nn.Module, predictions: Any, index: int | None, *, num_classes: int
) -> Scoring | None:
    if not callable(getattr(trial, "predict_probs", None)):
        return None
    logits = torch.randn_like(predictions if index is None else predictions[index])
    drawn: Any = logits
    if index is not None:
        drawn = type(predictions)(logits if i == index else p for i, p in enumerate(predictions))
    proposals = _proposals(logits, num_classes=num_classes)
    try:
        (scores,) = trial.predict_probs(drawn, [proposals])
        scores = scores[:, :num_classes]
    except Exception:  # of code that is not ours: then it is not known
        return None
    logits = logits.detach().float()
    for scoring, expected in (("softmax", logits.softmax(dim=1)), ("sigmoid", logits.sigmoid())):
        expected = expected[:, :num_classes]
        if scores.shape == expected.shape and torch.allclose(
            scores.detach().float(), expected, atol=_TOLERANCE
        ):
            return scoring  # type: ignore[return-value]
    return None
