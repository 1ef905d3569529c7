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


def scores_before_the_threshold(model, batch):
    """Return the scores that post-processing gets, image after image, level after level."""
    seen, own = [], model.inference_single_image

    def look(anchors, scores, deltas, image_size):
        seen.extend(level.clone() for level in scores)
        return own(anchors, scores, deltas, image_size)

    model.inference_single_image = look
    with torch.no_grad():
        found = model(batch)
    return seen, [len(output["instances"]) for output in found]


@pytest.mark.parametrize("fast", [True, False])
def test_logit_adjustment_is_that_of_folded_weights(fast):
    """Folding has the order of the channels by itself, so an error in either shows."""
    folded, corrected, plain = retinanet(), retinanet(LOGIT_ADJUSTMENT=1.0), retinanet()
    (correction,) = post_hoc_corrections(corrected)
    correction.bind(COUNTS)
    fold_into_weights(folded.head.cls_score, logit_adjustment(COUNTS, tau=1.0), background=False)
    batch = [{"image": sample["image"]} for sample in small_batch()]
    results = []
    for model in (folded, corrected, plain):
        model.fast_inference = fast
        results.append(scores_before_the_threshold(model, batch))
    (expected, _), (found, counts), (before, _) = results
    assert min(counts) > 0
    assert len(found) == 2 * 5
    for ours, other, unadjusted in zip(found, expected, before):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)
        shift = ours.logit() - unadjusted.logit()
        exact = -(COUNTS / COUNTS.mean()).log().float().expand_as(shift)
        torch.testing.assert_close(shift, exact, rtol=1e-3, atol=1e-3)


def test_fracal_is_the_product_of_sigmoids():
    model = retinanet(FRACAL=2.0)
    (correction,) = post_hoc_corrections(model)
    correction.bind(COUNTS, num_images=100, dimensions=DIMENSIONS)
    logits = torch.randn(2, 3 * NUM_CLASSES, 4, 5)
    found = model._corrected(logits, correction)
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
