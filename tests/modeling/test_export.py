"""Trained models leave through Detectron2's own exports."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes

from tests.modeling.small_models import as_retinanet, small_batch, small_config, small_model

# Detectron2 v0.6's export wants caffe2.
torchscript = pytest.importorskip("detectron2.export.torchscript")
flatten = pytest.importorskip("detectron2.export.flatten")

FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": torch.Tensor,
    "pred_boxes": Boxes,
    "scores": torch.Tensor,
    "pred_classes": torch.Tensor,
    "pred_masks": torch.Tensor,
}


def models(kind: str):
    """Return our model and, with the same weights, Detectron2's."""
    made = []
    for ours in (True, False):
        cfg = small_config(ours=ours)
        if kind == "retinanet":
            as_retinanet(cfg, ours=ours)
        elif ours:
            cfg.MODEL.ROI_MASK_HEAD.NAME = "LongTailMaskHead"
            cfg.LT_DET.FAST_BOX_REGRESSION = True
        made.append(small_model(cfg, seed=int(ours)).eval())
    ours, stock = made
    with torch.no_grad():
        # Scores of an untrained model are too near each other to have an order.
        head = ours.head if kind == "retinanet" else ours.roi_heads.box_predictor
        head.cls_score.weight.normal_()
    ignored = stock.load_state_dict(ours.state_dict(), strict=False)
    assert ignored.missing_keys == []
    assert set(ignored.unexpected_keys) <= {"loss_normalizer"}
    return ours, stock


def infer(model, inputs):
    if hasattr(model, "roi_heads"):
        return model.inference(inputs, do_postprocess=False)
    return [found["instances"] for found in model(inputs)]


@pytest.mark.parametrize("kind", ["standard", "retinanet"])
def test_detectron2_s_model_takes_the_weights_and_scripts(kind):
    ours, stock = models(kind)
    batch = [{"image": entry["image"]} for entry in small_batch()]
    scripted = torchscript.scripting_with_instances(stock, FIELDS)
    with torch.no_grad():
        expected = infer(ours, batch)
        if kind == "standard":
            results = scripted.inference(batch, do_postprocess=False)
        else:
            results = scripted(batch)
    for ours_found, theirs in zip(expected, results):
        assert len(ours_found) > 10
        # What Detectron2 does after a model that is not scripted.
        boxes = Boxes(theirs.pred_boxes.tensor)
        boxes.clip(ours_found.image_size)
        some = boxes.nonempty()
        torch.testing.assert_close(ours_found.pred_boxes.tensor, boxes.tensor[some])
        torch.testing.assert_close(ours_found.scores, theirs.scores[some])
        assert torch.equal(ours_found.pred_classes, theirs.pred_classes[some])


@pytest.mark.parametrize("kind", ["standard", "retinanet"])
def test_our_model_traces(kind):
    ours, _ = models(kind)
    first, second = ([{"image": entry["image"]}] for entry in small_batch())

    def detect(model, inputs):
        return [{"instances": infer(model, inputs)[0]}]

    adapter = flatten.TracingAdapter(ours, first, detect)
    with torch.no_grad():
        traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
        # Another image than that of the trace, of another size.
        found = adapter.outputs_schema(traced(second[0]["image"]))[0]["instances"]
        (expected,) = infer(ours, second)
    assert len(expected) > 10
    torch.testing.assert_close(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)
