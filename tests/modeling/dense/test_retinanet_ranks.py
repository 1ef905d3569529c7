"""Two gloo processes, their losses and averaged gradients, against one process on the union."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from detectron2.structures import Boxes, Instances
from torch import nn

from lt_det.engine.training_model import wrap_ddp
from tests.modeling.dense.test_retinanet import fcos, retinanet, run
from tests.processes import spawn_within

# Images of each rank with and without instances, for each step.
STEPS = {
    "both": ((True, True), (True, True)),
    "one rank without": ((True, True), (False, False)),
    "one image without": ((True, False), (True, True)),
    "none": ((False, False), (False, False)),
}
RUNS = [(case, kind) for kind in ("global", "stock") for case in STEPS]
# The same code; and v0.6's own FCOS fails on images without instances.
RUNS += [("both", "fcos")]


def images(flags: tuple[bool, ...], *, seed: int) -> list[dict]:
    """Return images of one size: others would be padded otherwise in the union."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for filled in flags:
        image = (torch.rand(3, 64, 80, generator=generator) * 255).byte()
        corner = torch.randint(0, 30, (4, 2), generator=generator).float()
        boxes = torch.cat([corner, corner + 32.0], dim=1)[: 4 if filled else 0]
        instances = Instances((64, 80), gt_boxes=Boxes(boxes))
        instances.gt_classes = torch.randint(0, 6, (4,), generator=generator)[: len(boxes)]
        batch.append({"image": image, "height": 64, "width": 80, "instances": instances})
    return batch


def shards(step: int, flags: tuple) -> list[list[dict]]:
    return [images(flag, seed=10 * step + rank) for rank, flag in enumerate(flags)]


def model(kind: str) -> nn.Module:
    if kind == "fcos":
        return fcos(ours=True)
    return retinanet(LT_DET__RETINANET__NORMALIZER=kind)


def train(detector: nn.Module, case: str, pick: int | None) -> list:
    """Return losses, gradients and normalizer of a case and of the step after it."""
    out = []
    for step, flags in enumerate((STEPS[case], STEPS["both"])):
        parts = shards(step, flags)
        batch = sum(parts, []) if pick is None else parts[pick]
        losses, gradients = run(detector, batch, steps=1)
        gradients = {n.removeprefix("module."): g.clone() for n, g in gradients.items()}
        inner = getattr(detector, "module", detector)
        out.append((losses[0], gradients, float(inner.loss_normalizer)))
    return out


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    results = {(case, kind): train(wrap_ddp(model(kind)), case, rank) for case, kind in RUNS}
    for case in STEPS:  # 90 MB each, and nobody asks for them
        results[case, "stock"] = [(step[0], {}, step[2]) for step in results[case, "stock"]]
    torch.save(results, folder / f"{rank}.pth")
    # The group ends with the process: destroying gloo right after a collective can deadlock.
    dist.barrier()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("retinanet_ranks")
    spawn_within(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


@pytest.mark.parametrize(("case", "kind"), [r for r in RUNS if r[1] != "stock"])
def test_two_processes_equal_one_on_the_union(case, kind, ranks):
    alone = train(model(kind), case, None)
    for union, first, second in zip(alone, ranks[0][case, kind], ranks[1][case, kind]):
        assert union[2] == first[2] == second[2]
        for name, value in union[0].items():
            mean = (first[0][name] + second[0][name]) / 2
            assert mean == pytest.approx(value, rel=1e-4, abs=1e-7)
        assert union[1].keys() == first[1].keys()
        for name, gradient in union[1].items():
            assert torch.equal(first[1][name], second[1][name])
            scale = float(gradient.abs().max())
            torch.testing.assert_close(first[1][name], gradient, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("case", sorted(STEPS))
def test_stock_counts_each_process_by_itself(case, ranks):
    for rank in (0, 1):
        alone = train(retinanet(ours=False), case, rank)
        for mine, there in zip(alone, ranks[rank][case, "stock"]):
            assert mine[2] == there[2]
            assert mine[0] == there[0]
    # What one process on the union has, it has not.
    union = train(retinanet(ours=False), case, None)
    assert union[1][2] != ranks[0][case, "stock"][1][2]
