"""Calibrations of RetinaNet: before the threshold, the same for all anchors."""

from __future__ import annotations

import pytest
import torch

from lt_det.engine.training_model import post_hoc_corrections
from lt_det.modeling.calibration import fold_into_weights, logit_adjustment, sigmoid_fracal
from tests.modeling.small_models import (
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 2.0, 1.0], dtype=torch.float64)
DIMENSIONS = torch.linspace(1, 2, NUM_CLASSES)


def retinanet(**keys):
    cfg = as_retinanet(small_config("standard"))
    for key, value in keys.items():
        cfg.LT_DET.POST_HOC[key] = value
    model = small_model(cfg).eval()
    with torch.no_grad():
        model.head.cls_score.bias.uniform_(-2, 0, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("fast", [True, False])
def test_logit_adjustment_is_that_of_folded_weights(fast):
    """Folding has the order of the channels by itself, so an error in either shows."""
    folded, corrected = retinanet(), retinanet(LOGIT_ADJUSTMENT=1.0)
    (correction,) = post_hoc_corrections(corrected)
    correction.bind(COUNTS)
    fold_into_weights(folded.head.cls_score, logit_adjustment(COUNTS, tau=1.0), background=False)
    plain = retinanet()
    for model in (folded, corrected, plain):
        model.fast_inference = fast
    batch = [{"image": sample["image"]} for sample in small_batch()]
    with torch.no_grad():
        for ours, other, before in zip(*(model(batch) for model in (corrected, folded, plain))):
            ours, other, before = (x["instances"] for x in (ours, other, before))
            assert len(ours) == len(other) > 0
            torch.testing.assert_close(ours.scores, other.scores, rtol=1e-4, atol=1e-5)
            assert ours.pred_classes.bincount().tolist() == other.pred_classes.bincount().tolist()
            assert ours.pred_classes.float().mean() > before.pred_classes.float().mean()


def test_fracal_is_the_product_of_sigmoids():
    model = retinanet(FRACAL=2.0)
    (correction,) = post_hoc_corrections(model)
    correction.bind(COUNTS, num_images=100, dimensions=DIMENSIONS)
    logits = torch.randn(2, 3 * NUM_CLASSES, 4, 5)
    found = model._corrected(logits)
    calibration = sigmoid_fracal(COUNTS, DIMENSIONS, num_images=100)
    for anchor in range(3):
        for k in range(NUM_CLASSES):
            z = logits[:, anchor * NUM_CLASSES + k]
            expected = z.sigmoid() * (z + calibration.shift[k].float()).sigmoid()
            channel = found[:, anchor * NUM_CLASSES + k]
            torch.testing.assert_close(channel.sigmoid(), expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TAU_NORM", 0.5, "TAU_NORM would do nothing to LongTailRetinaNet"),
        ("LOGN", "x.json", "LOGN would do nothing to LongTailRetinaNet"),
        ("NORCAL", 0.6, "NORCAL divides the scores of a softmax"),
    ],
)
def test_what_is_not_for_dense_detectors(key, value, message):
    with pytest.raises(ValueError, match=message):
        retinanet(**{key: value})
