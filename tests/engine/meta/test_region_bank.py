"""The bank of a meta learner holds what its place in the stream says, and follows the stream."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lt_det.engine.loading.build import build_meta_stream, build_train_stream
from lt_det.engine.loading.streams import build_streams
from lt_det.engine.meta.batches import MetaBatches
from lt_det.engine.meta.region_bank import RegionBank
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.trainer_keys import obeyed
from tests.engine.tiny import tiny_config

META = {
    "LT_DET__LOSS": "balanced_sigmoid",
    "LT_DET__DECOUPLED": True,
    "LT_DET__META__ENABLED": True,
    "SOLVER__IMS_PER_BATCH": 2,
    "SEED": 5,
}


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return tiny_config(tmp_path_factory.mktemp("bank"), **META)


@pytest.fixture(scope="module")
def detector(cfg):
    torch.manual_seed(0)
    model = freeze_all_but_classifier(LongTailTrainer.build_model(cfg)).train()
    obeyed(model, "LT_DET.META.ENABLED")
    return model


def make_bank(cfg, detector, *, num_images=4, renewed=0.75) -> RegionBank:
    stream = build_meta_stream(cfg, build_train_stream(cfg), ims_per_batch=1)
    return RegionBank(detector, stream, num_images=num_images, renewed=renewed, seed=7)


def contents(bank: RegionBank) -> list[torch.Tensor]:
    return [tensor.clone() for image in bank for stage in image for tensor in stage]


@pytest.mark.parametrize("update", [0, 1, 5, 11])
def test_a_bank_that_starts_late_is_that_of_an_uninterrupted_run(cfg, detector, update):
    whole = make_bank(cfg, detector)
    whole.start_at(0)
    for _ in range(update):
        whole.advance()
        torch.rand(3)  # a step draws numbers, too
    late = make_bank(cfg, detector)
    late.start_at(update)
    assert len(contents(late)) == 2 * len(late) > 0
    for a, b in zip(contents(whole), contents(late)):
        assert torch.equal(a, b)


def test_a_share_of_the_images_is_renewed_at_each_update(cfg, detector):
    bank = make_bank(cfg, detector, renewed=0.1)
    bank.start_at(0)
    for update in range(1, 41):
        before = list(bank)
        bank.advance()
        renewed = [i for i, (a, b) in enumerate(zip(before, bank)) if a is not b]
        assert renewed == ([(update // 10 - 1) % 4] if update % 10 == 0 else [])
    fixed = make_bank(cfg, detector, renewed=0.0)
    fixed.start_at(0)
    before = list(fixed)
    for _ in range(20):
        fixed.advance()
    assert all(a is b for a, b in zip(before, fixed))


def test_filling_and_renewing_leave_the_random_states_of_the_step(cfg, detector):
    bank = make_bank(cfg, detector)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    bank.start_at(0)
    for _ in range(4):
        bank.advance()
    assert torch.equal(torch.rand(4), expected)


def gradients(cfg, detector, batches: MetaBatches, *, updates: int) -> torch.Tensor:
    """Return ``(updates, K, D)`` gradients of the plain loss of meta batches."""
    (head,) = classification_heads(detector)
    rows = []
    for _ in range(updates):
        (regions,) = batches()
        logits = head.cls_score(regions.features)
        one_hot = F.one_hot(regions.labels, logits.shape[1] + 1)[:, :-1].float()
        loss = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / len(logits)
        rows.append(torch.autograd.grad(loss, head.cls_score.weight)[0])
    return torch.stack(rows).double()


@pytest.mark.slow
def test_mean_gradients_equal_those_of_fresh_batches_within_noise(cfg, detector):
    found = {}
    for regions in ("forward", "bank"):
        one = cfg.clone()
        one.LT_DET.META.REGIONS = regions
        one.LT_DET.META.BANK_IMAGES, one.LT_DET.META.BANK_RENEWAL = 8, 0.5
        _, batches = build_streams(one, detector, build_train_stream(one), start_iter=0)
        found[regions] = gradients(one, detector, batches, updates=160)
    fresh, bank = found["forward"], found["bank"]
    # Batches that are near each other share images: the spread of means of 16, longer than an
    # image stays in the bank.
    spread = bank.unflatten(0, (10, 16)).mean(1).std(0) / 10**0.5
    spread = (spread**2 + fresh.var(0) / len(fresh)).sqrt()
    z = (bank.mean(0) - fresh.mean(0)) / spread.clamp(min=1e-12)
    assert fresh.mean(0).abs().max() > 1e-3
    # 10 means: as Student's t with 9 degrees of freedom, whose variance is 9/7.
    assert z.square().mean().sqrt() < 1.5


def test_detectors_take_the_bank_by_default_and_images_a_forward(cfg, detector):
    _, batches = build_streams(cfg, detector, build_train_stream(cfg), start_iter=0)
    assert cfg.LT_DET.META.REGIONS == ""
    assert isinstance(batches._bank, RegionBank)
    assert len(batches._bank) == cfg.LT_DET.META.BANK_IMAGES
