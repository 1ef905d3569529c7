"""Every method of both papers, end to end on the digits: the study's method files on other data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.digits import digits_config
from tests.engine.test_image_classification import results_of, train

BASES = Path(__file__).resolve().parents[2] / "configs" / "classification" / "_base_"
METHODS = sorted(path.stem[len("method_") :] for path in BASES.glob("method_*.yaml"))
SECOND_STAGES = {
    *("crt", "lws", "balanced_softmax_decoupled", "balms", "balanced_softmax_reweighter"),
}
#: Methods that are there to raise the few, and do so in seconds.
BALANCING = SECOND_STAGES | {"class_balanced"}


@pytest.fixture(scope="module")
def cross_entropy(tmp_path_factory):
    cfg = digits_config(tmp_path_factory.mktemp("ce"), "SOLVER.MAX_ITER", 100)
    train(cfg)
    return cfg


@pytest.mark.parametrize("method", METHODS)
def test_method_trains_and_does_what_it_is_for(tmp_path, cross_entropy, method):
    iterations = 40 if method in SECOND_STAGES else 100
    cfg = digits_config(tmp_path, "SOLVER.MAX_ITER", iterations)
    cfg.LT_DET.RESET_CLASSIFIER = method in SECOND_STAGES  # lws sets it back
    cfg.merge_from_file(str(BASES / f"method_{method}.yaml"))
    if method.endswith(("_drw", "_deferred")):
        cfg.LT_DET.DEFER.START_ITER = 80
    if method in SECOND_STAGES:
        options = ["LT_DET.DECOUPLED", True]
        options += ["LT_DET.REGION_CACHE.ENABLED", True, "SOLVER.WARMUP_ITERS", 0]
        options += ["MODEL.WEIGHTS", f"{cross_entropy.OUTPUT_DIR}/model_final.pth"]
        cfg.merge_from_list(options)
    train(cfg)
    found, plain = results_of(cfg), results_of(cross_entropy)
    print(method, found["top1"], found["few"], plain["top1"], plain["few"])
    assert found["top1"] > 30  # chance is 10
    if method in BALANCING:
        assert found["few"] > plain["few"] + 5


def test_all_methods_are_there():
    assert set(METHODS) > SECOND_STAGES | BALANCING
    assert len(METHODS) == 13
