"""Meta step, box predictors, mask head and RetinaNet on the GPU, equal to those of the CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import heads
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from gpu_check.device import DEVICE, NAMES, SMALL, TOLERANCE, autocast, compare
from gpu_check.results import Results
from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions, class_hypergradient
from lt_det.meta.sgd_rule import SGDRule
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from lt_det.modeling.roi.mask_head import LongTailMaskHead
from tests.modeling.small_models import (
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

REGIONS, FEATURES, CLASSES, MASKS = (48, 32, 11, 6) if SMALL else (512, 1024, 1203, 64)
#: Of the loss, as a gradient scaler does it: small gradients are zero in float16.
SCALE = 2.0**12
#: Sums over many channels in half precision: more than the two roundings of a loss.
OF_LAYERS = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1.5e-1}


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    for closed in (True, False):
        name = "closed form" if closed else "forward mode"
        results.check(f"meta gradient, {name}", partial(meta_gradient, closed))
    for dtype in TOLERANCE:
        for loss in ("softmax_ce", "balanced_softmax", "balanced_sigmoid", "seesaw"):
            results.check(f"box predictor, {loss}, {NAMES[dtype]}", partial(box, loss, dtype))
        results.check(f"mask head, training, {NAMES[dtype]}", partial(mask, dtype))
        results.check(f"mask head, inference, {NAMES[dtype]}", partial(mask, dtype, training=False))
        for loss in ("focal", "halted_focal", "eureka"):
            results.check(f"RetinaNet, {loss}, {NAMES[dtype]}", partial(retinanet, loss, dtype))
    for kind in ("standard", "cascade"):
        results.check(f"detections of a {kind} R-CNN", partial(detections, kind))


def meta_gradient(closed_form: bool) -> str:
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        classifier = nn.Linear(FEATURES, CLASSES).to(device)
        counts = torch.logspace(4, 0, CLASSES, dtype=torch.float64)
        train = Criterion("balanced_sigmoid", class_counts=counts, num_images=100_000).to(device)
        batches = []
        for _ in range(2):
            features, labels = torch.randn(REGIONS, FEATURES), torch.randint(CLASSES, (REGIONS,))
            labels[REGIONS // 4 :] = CLASSES
            batches.append(Regions(features.to(device), labels.to(device)))
        gradient = class_hypergradient(
            classifier,
            regions=batches[0],
            meta_regions=batches[1],
            class_weights=torch.ones(CLASSES, device=device),
            row_losses=train.row_losses,
            meta_row_losses=Criterion("sigmoid_ce").to(device).row_losses,
            rules={"weight": SGDRule(lr=0.02), "bias": SGDRule(lr=0.02)},
            closed_form=closed_form,
        )
        found.append([gradient])
    return compare(*found, tolerance=1e-3)


def regions_of(count: int) -> Instances:
    """Return regions on the CPU, a quarter of them objects."""
    heads.DEVICE = "cpu"
    labels = torch.randint(0, CLASSES, (count,))
    labels[max(count // 4, 1) :] = CLASSES
    return heads.make_instances(count, labels)


def box(loss: str, dtype: torch.dtype) -> str:
    torch.manual_seed(0)
    sigmoid = Criterion(loss).kind == "sigmoid"
    columns = CLASSES + (not sigmoid)
    counts = torch.logspace(4, 0, columns, dtype=torch.float64)
    if loss == "seesaw":
        counts = counts[:CLASSES]
    criterion = Criterion(loss, class_counts=counts, num_images=100_000)
    layers = SigmoidOutputLayers if sigmoid else SoftmaxOutputLayers
    predictor = layers(
        ShapeSpec(channels=FEATURES),
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=CLASSES,
        criterion=criterion,
        fast_box_regression=True,
    )
    features, regions = torch.randn(REGIONS, FEATURES), regions_of(REGIONS)

    def losses(module: nn.Module, x: Tensor, regions: Instances) -> Tensor:
        return torch.stack([*module.losses(module(x), [regions]).values()])

    return on_both(predictor, features, regions, losses, dtype)


def mask(dtype: torch.dtype, *, training: bool = True) -> str:
    torch.manual_seed(0)
    shape = ShapeSpec(channels=32, height=14, width=14)
    arguments = {"num_classes": CLASSES, "conv_dims": [32, 32]}
    head = LongTailMaskHead(shape, **arguments).train(training)
    stock = MaskRCNNConvUpsampleHead(shape, **arguments).train(training)
    stock.load_state_dict(head.state_dict())
    features, regions = torch.randn(MASKS, 32, 14, 14), regions_of(MASKS)
    regions.gt_classes = regions.pred_classes = torch.randint(0, CLASSES, (MASKS,))
    regions.gt_masks = BitMasks(torch.rand(MASKS, 200, 200) > 0.5)

    def outputs(module: nn.Module, x: Tensor, regions: Instances) -> Tensor:
        found = module(x, [copy.copy(regions)])
        return found["loss_mask"] if training else found[0].pred_masks

    if training:
        # float16 adds up badly where sums are float16 as well, on some CPUs: as Detectron2's then.
        like = error_of(stock, features, regions, outputs, dtype)
        return on_both(head, features, regions, outputs, dtype, allowed=2 * like)
    return on_both(head, features, regions, outputs, dtype, gradients=False)


Outputs = Callable[[nn.Module, Tensor, Instances], Tensor]


def on_both(
    module: nn.Module,
    features: Tensor,
    regions: Instances,
    function: Outputs,
    dtype: torch.dtype,
    *,
    gradients: bool = True,
    allowed: float = 0.0,
) -> str:
    """Compare outputs and gradients of the CPU in float32 and of the device in ``dtype``.

    Args:
        module: on the CPU.
        features: likewise.
        regions: likewise.
        function: gives the outputs.
        dtype: of autocast on the device.
        gradients: whether to compare them as well.
        allowed: difference that is allowed where it is above that of :data:`OF_LAYERS`.
    """
    found = []
    for device, precision in (("cpu", torch.float32), (DEVICE, dtype)):
        copied = copy.deepcopy(module).to(device)
        x = features.detach().to(device).requires_grad_()
        with EventStorage(), autocast(precision):
            out = function(copied, x, regions.to(device))
        found.append([out])
        if gradients:
            (SCALE * out.float().sum()).backward()
            found[-1] += [x.grad, *(p.grad for p in copied.parameters())]
    return compare(*found, tolerance=max(OF_LAYERS[dtype], allowed))


def error_of(*arguments: Any) -> float:
    """Return the difference of :func:`on_both`, whatever is allowed."""
    said = on_both(*arguments, allowed=math.inf)
    return float(said.split()[2])


def retinanet(loss: str, dtype: torch.dtype) -> str:
    """Compare the losses of a whole detector, which samples no anchors; float32: gradients too."""
    model = small_model(as_retinanet(small_config(), loss=loss))
    model.criterion.bind(torch.ones(NUM_CLASSES, dtype=torch.float64), 10)
    found = []
    for device, precision in (("cpu", torch.float32), (DEVICE, dtype)):
        copied = copy.deepcopy(model).to(device).train()
        with EventStorage(), autocast(precision):
            losses = copied(small_batch())
        (SCALE * sum(losses.values())).backward()
        gradients = [p.grad for p in copied.parameters()] if dtype == torch.float32 else []
        found.append([torch.stack([v.float() for v in losses.values()]), *gradients])
    # Through the batch norm of a network that was never trained.
    return compare(*found, tolerance=3 * OF_LAYERS[dtype])


def detections(kind: str) -> str:
    """Compare the scores of all detections in their order, from the images on."""
    names = ("LongTailMaskHead", "MaskRCNNConvUpsampleHead")
    cfg = small_config(kind, MODEL__ROI_MASK_HEAD__NAME=names[0], LT_DET__LOSS="softmax_ce")
    model = small_model(cfg).eval()
    found = []
    for device in ("cpu", DEVICE):
        with torch.no_grad():
            outputs = copy.deepcopy(model).to(device)(small_batch())
        found.append([o["instances"].scores for o in outputs])
    return compare(*found, tolerance=1e-3)
