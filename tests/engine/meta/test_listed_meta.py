"""The meta learner obeys image lists: in its inner step, its meta loss and the real step."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from lt_det.engine.loading.image_lists import ListedRegions
from lt_det.engine.meta.batches import cached_regions, regions_by_forward
from lt_det.engine.meta.step_model import MetaStepModel
from lt_det.engine.regions.classifier import RegionClassifier
from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.criterion import Criterion
from lt_det.losses.image_lists import INCOMPLETE, KNOWN, UNKNOWN, ImageLists
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from tests.engine.tiny import tiny_config, write_tiny_lvis

K, D, LR = 4, 5, 0.7
#: Of the logits in each loss's softmax; class 0 is in more than half of the images, and its factor
#: is negative.
FACTORS = {"softmax": torch.ones(K + 1), "sigmoid": torch.ones(K)}
FACTORS["iif"] = torch.tensor([-2.1972246, 0.0, 0.8472979, 1.3862944, 1.0])
LISTS = [
    torch.tensor(one, dtype=torch.uint8)
    for one in (
        [KNOWN, UNKNOWN, KNOWN, INCOMPLETE],
        [UNKNOWN, KNOWN, INCOMPLETE, KNOWN],
        [KNOWN, KNOWN, UNKNOWN, UNKNOWN],
    )
]


def images(
    seed: int, lists: list[Tensor], among: Sequence[int] = range(K + 1)
) -> list[ListedRegions]:
    """Return cached regions of images of different sizes, with their lists; labels of ``among``."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i, knowledge in enumerate(lists):
        labels = torch.tensor([*among])[
            torch.randint(len(among), (4 + 3 * i,), generator=generator)
        ]
        features = torch.randn(len(labels), D, generator=generator)
        found.append(ListedRegions([(features, labels)], knowledge))
    return found


def step_model(kind: str, lists: ImageLists | None, meta_batch: list) -> MetaStepModel:
    torch.manual_seed(0)
    head = ClassificationHead()
    head.has_background = kind != "sigmoid"
    head.cls_score = nn.Linear(D, K + head.has_background)
    if kind == "iif":
        counts = {"class_counts": [9.0, 5.0, 3.0, 2.0], "num_images": 10}
        head.criterion = Criterion("iif", variant="rel", image_lists=lists, **counts)
    else:
        head.criterion = Criterion(f"{kind}_ce", image_lists=lists)
    head.criterion.fit_head(K, background=head.has_background)
    model = RegionClassifier(nn.ModuleDict({"head": head}))
    return MetaStepModel(
        model,
        meta=MetaReweighter(K, lr=0.1),
        meta_batches=lambda: cached_regions(model.detector, meta_batch),
        optimizer=torch.optim.SGD(head.parameters(), lr=LR),
    ).train()


def row_losses(kind: str, logits: Tensor, batch: list, filled: Sequence[int] = ()) -> Tensor:
    """Return the losses of the rows by the lists of their images, one row after another.

    Rows of the background also keep unknown classes that are ``filled``.
    """
    losses, rows = [], iter(logits)
    for image in batch:
        for label in image[0][1].tolist():
            row = next(rows)
            kept = [
                c
                for c in range(len(row))
                if c in (label, K)
                or image.class_knowledge[c] == KNOWN
                or (label < K and image.class_knowledge[c] == INCOMPLETE)
                or (label == K and image.class_knowledge[c] == UNKNOWN and c in filled)
            ]
            target = torch.tensor([float(c == label) for c in kept])
            if kind != "sigmoid":
                losses.append(-(target * row[kept].log_softmax(0)).sum())
            else:
                losses.append(
                    F.binary_cross_entropy_with_logits(row[kept], target, reduction="sum")
                )
    return torch.stack(losses)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "iif"])
def test_psi_and_the_step_are_those_of_the_lists_of_each_image(kind, fill):
    lists, among, filled = ImageLists("known"), range(K + 1), ()
    if fill:
        # Two classes and the background are labels, one more is drawn: the by far most frequent.
        lists = ImageLists("known", fill=4, class_counts=[1.0, 1.0, 1.0, 1e24])
        among, filled = (0, 1, K), (0, 1, 3)
    batch, meta_batch = images(1, LISTS, among), images(2, [LISTS[2], LISTS[0]], among)
    for part in (batch, meta_batch):
        assert not fill or {*torch.cat([one[0][1] for one in part]).tolist()} == {*among}
    model = step_model(kind, lists, meta_batch)
    head, psi = model.model.detector["head"], model.meta.psi
    start = {name: p.detach().clone() for name, p in head.cls_score.named_parameters()}
    features, labels = (torch.cat([one[0][i] for one in batch]) for i in (0, 1))

    # By automatic differentiation through the step.
    weights = model.meta.reweighter(torch.bincount(labels, minlength=K + 1)[:K].float())
    of_rows = torch.cat([weights, torch.ones(1)])[labels]
    theta = [start["weight"].requires_grad_(), start["bias"].requires_grad_()]
    factors = FACTORS[kind]
    logits = factors * F.linear(features, *theta)
    inner = (of_rows * row_losses(kind, logits, batch, filled)).mean()
    grads = torch.autograd.grad(inner, theta, create_graph=True)
    stepped = [p - LR * g for p, g in zip(theta, grads)]
    meta_features = torch.cat([one[0][0] for one in meta_batch])
    logits = factors * F.linear(meta_features, *stepped)
    meta = row_losses(kind, logits, meta_batch, filled).mean()
    (expected,) = torch.autograd.grad(meta, psi)

    found = []
    own, model.meta.optimizer.step = model.meta.optimizer.step, lambda: found.append(psi.grad)
    with EventStorage():
        model(batch)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-7)
    model.meta.optimizer.step = own
    with EventStorage():
        loss = model(batch)["loss_cls"]
    new = torch.cat(
        [model.meta.reweighter(torch.bincount(labels, minlength=K + 1)[:K].float()), torch.ones(1)]
    )
    logits = factors * F.linear(features, start["weight"], start["bias"])
    torch.testing.assert_close(loss, (new[labels] * row_losses(kind, logits, batch, filled)).mean())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_where_all_is_known_it_is_the_plain_meta_step_to_the_last_bit(kind):
    everything = [torch.full((K,), KNOWN, dtype=torch.uint8)] * 3
    batch, meta_batch = images(1, everything), images(2, everything)
    found = []
    for lists in (None, ImageLists("known")):
        model = step_model(kind, lists, meta_batch)
        with EventStorage():
            loss = model(batch)["loss_cls"]
        found.append((loss.detach(), model.meta.psi.detach()))
    assert all(torch.equal(a, b) for a, b in zip(*found))
    assert found[0][1].any()


def test_a_forward_gives_meta_regions_the_lists_of_their_image():
    model = step_model("softmax", ImageLists("known"), []).model
    batch = images(1, LISTS)
    (found,) = regions_by_forward(model, batch)
    expected = [
        [
            c != label and bool(knowledge != KNOWN if label == K else knowledge == UNKNOWN)
            for c, knowledge in enumerate(image.class_knowledge)
        ]
        for image in batch
        for label in image[0][1].tolist()
    ]
    assert found.hidden.tolist() == expected


@pytest.mark.parametrize("regions", ["bank", "forward", "cache", "set of its own"])
def test_trainings_hand_the_lists_of_meta_images_on(tmp_path, monkeypatch, regions):
    path, _ = write_tiny_lvis(tmp_path)
    with open(path) as file:
        content = json.load(file)
    for i, image in enumerate(content["images"]):
        image["neg_category_ids"] = [] if i % 2 else image["neg_category_ids"]
    with open(path, "w") as file:
        json.dump(content, file)
    keys = {"LT_DET__META__ENABLED": True, "LT_DET__DECOUPLED": True, "DATASETS__TEST": ()}
    keys |= {"LT_DET__IMAGE_LISTS__POLICY": "known", "MODEL__MASK_ON": False}
    keys["LT_DET__IMAGE_LISTS__FILL"] = 4 if regions == "forward" else 0
    keys |= {"LT_DET__REGION_CACHE__ENABLED": regions == "cache"}
    keys["LT_DET__META__REGIONS"] = regions if regions in ("bank", "forward") else ""
    cfg = tiny_config(tmp_path, **keys)
    if regions == "set of its own":
        cfg.LT_DET.META.DATASETS = cfg.DATASETS.TRAIN
    trainer = LongTailTrainer(cfg)
    trainer._build_streams()
    model = trainer.model
    (meta,) = model._meta_batches()
    assert meta.hidden.shape == (len(meta.labels), trainer.meta.num_classes)
    assert meta.hidden.any()
    assert not meta.hidden.all()
    batch = next(iter(trainer._stream))
    masks: dict[tuple[int, ...], list[Tensor]] = {}
    hidden = ImageLists._hidden

    def spied(self: ImageLists, labels: Tensor, *args: object) -> Tensor:
        found = hidden(self, labels, *args)
        masks.setdefault(tuple(labels.tolist()), []).append(found[:, : trainer.meta.num_classes])
        return found

    monkeypatch.setattr(ImageLists, "_hidden", spied)
    with EventStorage():
        losses = model(batch)
    # What the forward hides, the inner step and the real one hide, draws of FILL included.
    first, *others = next(found for found in masks.values() if len(found) == 3)
    assert all(torch.equal(first, other) for other in others)
    assert torch.isfinite(losses["loss_cls"])
    assert trainer.meta.psi.any()
