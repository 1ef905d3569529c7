#!/usr/bin/env python
"""Step time, memory and inference time against the number of classes; DDP against one process.

python benchmarks/scaling.py

Mask R-CNN R50-FPN with the heads of the LVIS configs for 80 classes (COCO), 1,203 (LVIS v1) and
13,204 (V3Det), next to Detectron2's heads.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectors import (
    DEVICE,
    SIDES,
    bind_counts,
    built_detector,
    compare_detections,
    config_of,
    same_weights,
    spread_scores,
)
from detectron2.solver import build_optimizer
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from timing import (
    REPOSITORY,
    Row,
    median_ms,
    peak_growth_mb,
    synchronize,
    turn_order,
    write_rows,
)
from torch import nn

from lt_det.engine.training_model import wrap_ddp

CONFIG = REPOSITORY / "configs" / "lvis_v1" / "stage1_softmax_r50.yaml"
FEW, MANY, MOST = 80, 1203, 13204
HEIGHT, WIDTH, OBJECTS = 256, 320, 12
IMAGES = 2  # of a step; a rank of the LVIS configs has as many
REPEATS = 5
ALLOWED = 1 / 1.10
#: a child that wants more than this fails, so that it does not bring down the machine
MEMORY_LIMIT_GB = 10
# What other processes do costs a wall clock more than the sides differ.
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
NAMES = {"stock": "Detectron2", "ours": "lt_det"}
TRAINING, INFERENCE = "training step", "inference"
RANK_MODES = ("one process", "two processes", "two processes, DDP")
RANK_BACKEND = "nccl" if DEVICE == "cuda" else "gloo"
CASES = [(side, k) for k in (FEW, MANY, MOST) for side in SIDES]

#: side, classes
Case = tuple[str, int]
Table = dict[Case, float]


def make_batch(num_classes: int, *, images: int = IMAGES) -> list[dict]:
    """Return noise with boxes and masks."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(images):
        room = torch.tensor([WIDTH - 90.0, HEIGHT - 90.0])
        corners = torch.rand(OBJECTS, 2, generator=generator) * room
        sizes = 30 + torch.rand(OBJECTS, 2, generator=generator) * 60
        instances = Instances((HEIGHT, WIDTH))
        instances.gt_boxes = Boxes(torch.cat([corners, corners + sizes], dim=1))
        instances.gt_classes = torch.randint(0, num_classes, (OBJECTS,), generator=generator)
        instances.gt_masks = BitMasks(torch.rand(OBJECTS, HEIGHT, WIDTH, generator=generator) > 0.5)
        pixels = (torch.rand(3, HEIGHT, WIDTH, generator=generator) * 255).byte()
        batch.append({"image": pixels, "height": HEIGHT, "width": WIDTH, "instances": instances})
    return batch


def config(side: str, num_classes: int) -> Any:
    options = {
        "MODEL.WEIGHTS": "",
        "MODEL.ROI_HEADS.NUM_CLASSES": num_classes,
        "LT_DET.LOSS": "balanced_softmax",
        "SOLVER.BASE_LR": 0.0,  # all steps are the same
    }
    return config_of(CONFIG, side, options)


def stepper(
    side: str,
    num_classes: int,
    *,
    images: int = IMAGES,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Callable[[], dict[str, float]]:
    """Return one training step; the step returns what Detectron2 logs of it."""
    cfg = config(side, num_classes)
    model = built_detector(cfg).train()
    bind_counts(model)
    optimizer = build_optimizer(cfg, model)
    wrapped = wrap(model)
    batch = make_batch(num_classes, images=images)

    def step() -> dict[str, float]:
        torch.manual_seed(0)  # the same regions are sampled every time
        with EventStorage() as storage:
            loss = sum(wrapped(batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: value for name, (value, _) in storage.latest().items()}

    return step


def detector(side: str, num_classes: int) -> nn.Module:
    model = built_detector(config(side, num_classes)).eval()
    spread_scores(model, make_batch(num_classes, images=1))
    return model


def inferrer(model: nn.Module) -> Callable[[], list[dict]]:
    batch = make_batch(model.roi_heads.num_classes, images=1)

    @torch.no_grad()
    def infer() -> list[dict]:
        return model(batch)

    return infer


def step_times(cases: list[Case], repeats: int) -> tuple[Table, float]:
    """Return the time of a step in ms, and the foreground regions of an image."""
    steps = {f"{side} {k}": stepper(side, k) for side, k in cases}
    foreground = steps[f"ours {FEW}"]()["roi_head/num_fg_samples"]
    times = median_ms(steps, repeats=repeats, clock=CLOCK)
    return {(side, k): times[f"{side} {k}"] for side, k in cases}, foreground


def inference_times(cases: list[Case], repeats: int) -> tuple[Table, tuple[int, int]]:
    """Return the time of an image in ms, and how many mask pixels differ, of how many."""
    models = {case: detector(*case) for case in cases}
    differing = total = 0
    for k in (FEW, MANY):
        same_weights(models["ours", k], models["stock", k])
        pixels = compare_detections(*(inferrer(models[side, k])() for side in SIDES))
        differing, total = differing + pixels[0], total + pixels[1]
    functions = {f"{side} {k}": inferrer(model) for (side, k), model in models.items()}
    # The comparison has warmed up.
    times = median_ms(functions, repeats=repeats, warm_up=0, clock=CLOCK)
    return {(side, k): times[f"{side} {k}"] for side, k in cases}, (differing, total)


def peak(what: str, side: str, num_classes: int) -> float | None:
    """Return the peak memory in MB, in a process of its own; None if it fails for memory.

    Forked on a CPU, to import nothing again: to be called before anything else runs here. CUDA
    does not survive a fork.
    """
    receiver, sender = mp.Pipe(duplex=False)
    context = mp.get_context("fork" if DEVICE == "cpu" else "spawn")
    child = context.Process(target=send_peak, args=(sender, what, side, num_classes))
    child.start()
    sender.close()  # else a child that dies would leave us waiting
    found = receiver.recv()
    child.join()
    return found


def send_peak(sender: Any, what: str, side: str, num_classes: int) -> None:
    """Send by how much building and running raises the peak; None if memory runs out."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = virtual + MEMORY_LIMIT_GB * 2**30
    if DEVICE == "cpu":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def run() -> None:
        if what == TRAINING:
            step = stepper(side, num_classes)
            step()
            step()  # only now are there momentum and activations at the same time
        else:
            inferrer(detector(side, num_classes))()

    try:
        sender.send(peak_growth_mb(run))
    except (MemoryError, RuntimeError) as error:
        if "allocate" not in str(error) and not isinstance(error, MemoryError):
            raise
        sender.send(None)


def rank_main(rank: int, folder: str, side: str, num_classes: int, repeats: int) -> None:
    """Time the three modes of RANK_MODES in two processes; rank 0 writes the medians."""
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    if DEVICE == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        RANK_BACKEND, init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    if DEVICE == "cuda":  # wrap_ddp() asks for the local rank
        comm.create_local_process_group(2)
    plain = stepper(side, num_classes, images=1)
    in_ddp = stepper(side, num_classes, images=1, wrap=wrap_ddp)
    steps: dict[str, Callable[[], Any]] = dict(
        zip(RANK_MODES, (plain if rank == 0 else lambda: None, plain, in_ddp))
    )
    times: dict[str, list[float]] = {mode: [] for mode in RANK_MODES}
    for repeat in range(1 + repeats):
        for mode in turn_order(list(RANK_MODES), repeat=repeat):
            synchronize()
            dist.barrier()
            start = time.perf_counter()
            steps[mode]()
            synchronize()
            dist.barrier()  # the slower one counts
            if repeat:
                times[mode].append(1e3 * (time.perf_counter() - start))
    if rank == 0:
        medians = {mode: statistics.median(values) for mode, values in times.items()}
        Path(folder, "times.json").write_text(json.dumps(medians))
    dist.barrier()


def rank_times(side: str, num_classes: int, *, repeats: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_main, args=(folder, side, num_classes, repeats), nprocs=2)
        return json.loads(Path(folder, "times.json").read_text())


def class_rows(what: str, measured: Table, unit: str, *, target: float | None) -> list[Row]:
    """Return the rows of one quantity: against Detectron2, and against ours at 80 classes."""
    rows = [
        Row(f"{what}, {k:,} classes", measured["stock", k], measured["ours", k], unit)
        for k in (FEW, MANY, MOST)
        if ("stock", k) in measured
    ]
    return rows + [
        Row(
            f"{what}, {k:,} classes against {FEW}",
            measured["ours", FEW],
            measured["ours", k],
            unit,
            target=target if k == MANY else None,
            baseline_name=f"lt_det, {FEW} classes:",
        )
        for k in (MANY, MOST)
    ]


def rank_rows(ranks: dict[Case, dict[str, float]]) -> list[Row]:
    rows = []
    for k in (FEW, MANY) if ranks else ():
        of = {side: ranks[side, k][RANK_MODES[2]] for side in SIDES}
        rows.append(Row(f"step of 2 ranks, {k:,} classes", of["stock"], of["ours"], "ms"))
        alone, both, ddp = (ranks["ours", k][mode] for mode in RANK_MODES)
        for name, baseline in (("two processes without DDP:", both), ("one process:", alone)):
            what = f"step of 2 ranks, {k:,} classes, against {name.rstrip(':')}"
            rows.append(Row(what, baseline, ddp, "ms", baseline_name=f"lt_det, {name}"))
    return rows


def class_lines(measured: Table) -> dict[str, list[tuple[float, float]]]:
    return {
        NAMES[side]: [(k, value) for (s, k), value in measured.items() if s == side]
        for side in SIDES
    }


def extra(ranks: dict[Case, dict[str, float]], missing: list[str]) -> str:
    if not ranks:
        return "\n\n".join(missing)
    header = ["heads", "classes", *(f"{mode} (ms)" for mode in RANK_MODES)]
    lines = [
        [NAMES[side], f"{k:,}", *(f"{times[mode]:,.0f}" for mode in RANK_MODES)]
        for (side, k), times in ranks.items()
    ]
    table = tabulate(lines, header, tablefmt="github", disable_numparse=True)
    text = f"A step of one image a process, wall clock:\n\n{table}"
    return "\n\n".join([*missing, text]) if missing else text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=REPEATS, help="fewer for a quick look")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    peaks: dict[str, Table] = {TRAINING: {}, INFERENCE: {}}
    missing = []
    for what, found in peaks.items():
        for side, k in CASES:
            value = peak(what, side, k)
            print(f"{what}, {side}, {k:,} classes: peak {value} MB", flush=True)
            if value is None:
                missing.append(
                    f"{what}, {k:,} classes, {NAMES[side]}: not measured, it needs more than "
                    f"{MEMORY_LIMIT_GB} GB."
                )
            else:
                found[side, k] = value
    times, foreground = step_times(list(peaks[TRAINING]), args.repeats)
    print({f"{side} {k}": round(ms) for (side, k), ms in times.items()}, flush=True)
    inference, (differing, total) = inference_times(list(peaks[INFERENCE]), args.repeats)
    print({f"{side} {k}": round(ms) for (side, k), ms in inference.items()}, flush=True)
    ranks = {}
    if DEVICE == "cpu" or torch.cuda.device_count() > 1:
        ranks = {
            (side, k): rank_times(side, k, repeats=args.repeats)
            for k in (FEW, MANY)
            for side in SIDES
        }
    else:
        missing.append("Two ranks: not measured, they need two GPUs.")
    print(ranks, flush=True)
    panels = [
        {"title": TRAINING, "y": "ms", "lines": class_lines(times)},
        {"title": f"{INFERENCE}, one image", "y": "ms", "lines": class_lines(inference)},
        {"title": f"peak memory, {TRAINING}", "y": "MB", "lines": class_lines(peaks[TRAINING])},
        {"title": f"peak memory, {INFERENCE}", "y": "MB", "lines": class_lines(peaks[INFERENCE])},
    ]
    for panel in panels:
        panel.update(x="classes", log_x=True)
    if ranks:
        panels.append(
            {
                "title": "step of one image a rank",
                "x": "ranks",
                "y": "ms",
                "log_x": False,
                "lines": {
                    f"{NAMES[side]}, {k:,} classes": [(1, t[RANK_MODES[0]]), (2, t[RANK_MODES[2]])]
                    for (side, k), t in ranks.items()
                },
            }
        )
    write_rows(
        "scaling",
        [
            *class_rows(TRAINING, times, "ms", target=ALLOWED),
            *class_rows(f"peak memory, {TRAINING}", peaks[TRAINING], "MB", target=None),
            *class_rows(INFERENCE, inference, "ms", target=None),
            *class_rows(f"peak memory, {INFERENCE}", peaks[INFERENCE], "MB", target=None),
            *rank_rows(ranks),
        ],
        title="Against the number of classes and of ranks",
        about=(
            f"`{CONFIG.relative_to(REPOSITORY)}` (Mask R-CNN R50-FPN) with Balanced Softmax, "
            "drawn weights; Detectron2: its own heads and loss. Step: forward, backward and SGD "
            f"of {IMAGES} images of {HEIGHT} x {WIDTH}, {OBJECTS} objects and 512 regions each, of "
            f"which {foreground:.0f} foreground. Inference: one image, 1,000 proposals, 300 "
            "detections with masks; scores spread as after training. Boxes, scores and classes "
            "of both sides are equal to the last bit, masks in all but "
            f"{differing} of {total:,} pixels. One thread; on a CPU the time is the processor's. "
            "Memory: growth of the peak over building the detector and two steps, or one image, "
            f"in a fresh process. DDP: {RANK_BACKEND}, two processes of one thread on one machine; "
            "a step with DDP against the same without, in both processes at once."
        ),
        command="python benchmarks/scaling.py",
        repeats=args.repeats,
        extra=extra(ranks, missing),
        panels=panels,
    )


if __name__ == "__main__":
    main()
