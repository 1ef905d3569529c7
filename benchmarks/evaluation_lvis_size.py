"""LVIS evaluation of boxes at the size of LVIS v1 validation: hotcoco against lt_det.

    python benchmarks/evaluation_lvis_size.py [--small] [--input FOLDER]

Both sides read one json of the ground truth; hotcoco reads the detections from its json, lt_det
takes them as arrays, as its evaluator holds them. The first evaluation of a json by lt_det parses
and checks it and fills an empty cache; later ones take its arrays from there: two rows. What the
analysis after an evaluation costs beside it is measured there, too.

Processor time of one thread, each side in a process of its own, in turns. ``--small``: 200 images.
``--input``: where the input is made and stays; it is taken from there if it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import evaluation
import synthetic_lvis
from timing import Row, peak_mb, write_rows

REPEATS = 3
# Of what hotcoco needs: its matching is a part of ours.
TIME, MEMORY = 1 / 0.6, 1 / 0.8
FIRST, LATER = "first evaluation", "later evaluations"


def make_input(folder: Path, *, num_images: int) -> None:
    """Write gt.json, detections.npz and, for hotcoco, detections.json, unless they are there."""
    from lt_det.evaluation.results import write_json_records

    if (folder / "detections.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.make_input(folder, num_images=num_images, with_masks=False)
    found = evaluation.held(folder, "bbox")
    write_json_records(folder / "detections.json", found.records(), count=len(found))


def run_hotcoco(folder: Path) -> dict[str, Any]:
    import hotcoco

    start = time.process_time()
    truth = hotcoco.COCO(str(folder / "gt.json"))
    found = hotcoco.LVISResults(truth, str(folder / "detections.json"), evaluation.PER_IMAGE)
    one = hotcoco.LVISeval(truth, found, "bbox")
    one.run()
    seconds = time.process_time() - start
    metrics = {k: 100 * v for k, v in one.get_results().items() if k.startswith("AP")}
    return {"seconds": seconds, "mb": peak_mb(), "metrics": metrics}


def run_lt_det(folder: Path) -> dict[str, Any]:
    return evaluation.run_lt_det(folder, "bbox")


def run_analysis(folder: Path) -> dict[str, Any]:
    """Return what the analysis costs beside the evaluation, its files included."""
    from lt_det.evaluation.analysis.analyse import analyse
    from lt_det.evaluation.analysis.files import write_analysis
    from lt_det.evaluation.lvis.average_precision import lvis_average_precision
    from lt_det.evaluation.lvis.ground_truth import read_ground_truth

    detections = evaluation.held(folder, "bbox")
    truth = read_ground_truth(folder / "gt.json", with_masks=False)
    result = lvis_average_precision(truth, detections, iou_type="bbox")
    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        write_analysis(name, analyse(truth, detections, result), dataset="synthetic")
        seconds = time.process_time() - start
    return {"seconds": seconds, "mb": peak_mb(), "metrics": result.summary}


SIDES = {
    "hotcoco": run_hotcoco,
    FIRST: run_lt_det,
    LATER: run_lt_det,
    "analysis": run_analysis,
}


def in_process(side: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Run a side in a process of its own."""
    environment = {
        **os.environ,
        # Processor time of one thread: what else the machine does plays little role in it.
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "LT_DET_CACHE": str(cache),
    }
    command = [sys.executable, __file__, "--side", side, str(folder)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(result.stdout.strip().splitlines()[-1])


def measure(folder: Path, *, repeats: int) -> dict[str, dict[str, float]]:
    """Return side -> median seconds and MB; raise if the metrics differ."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:  # empty at the first evaluation
            for side, done in runs.items():
                done.append(in_process(side, folder, Path(name)))
                seconds, mb = done[-1]["seconds"], done[-1]["mb"]
                load = os.getloadavg()[0]
                print(f"{side}: {seconds:.2f} s, {mb:.0f} MB, load {load:.1f}", flush=True)
    expected = runs["hotcoco"][0]["metrics"]
    for side, done in runs.items():
        for metric in set(expected) & set(done[0]["metrics"]):
            if not abs(expected[metric] - done[0]["metrics"][metric]) < 1e-9:
                raise AssertionError(f"{metric} of {side} is not that of hotcoco")
    return {
        side: {key: statistics.median(run[key] for run in done) for key in ("seconds", "mb")}
        for side, done in runs.items()
    }


def rows(num_images: int, measured: dict[str, dict[str, float]]) -> list[Row]:
    """Return the rows of the page."""
    what, theirs = f"boxes, {num_images:,} images", measured["hotcoco"]
    found = []
    for side, note in ((FIRST, "empty cache"), (LATER, "ground truth from the cache")):
        ours, note = measured[side], f"{note}; {evaluation.SAME}"
        found += [
            Row(f"{what}, {side}: time", theirs["seconds"], ours["seconds"], "s", TIME, "hotcoco",
                note),
            Row(f"{what}, {side}: peak memory", theirs["mb"], ours["mb"], "MB", MEMORY, "hotcoco",
                note),
        ]  # fmt: skip
    analysis = measured["analysis"]["seconds"]
    baseline = measured[FIRST]["seconds"]
    return [
        *found,
        Row(f"{what}: time of the analysis", baseline, analysis, "s", 1, "first evaluation",
            "200 resamples, files included"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="200 images, not for the page")
    parser.add_argument("--input", type=Path, help="folder of the input, which stays there")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side, folder = arguments.side
        print(json.dumps(SIDES[side](Path(folder))))
        return
    num_images = 200 if arguments.small else synthetic_lvis.VAL_IMAGES
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.input or Path(name)
        make_input(folder, num_images=num_images)
        measured = measure(folder, repeats=REPEATS)
    load = f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    write_rows(
        "evaluation_lvis_size" + ("_small" if arguments.small else ""),
        rows(num_images, measured),
        title="LVIS evaluation at its own size",
        about=(
            f"{evaluation.PER_IMAGE} detections an image, {synthetic_lvis.NUM_CATEGORIES} classes, "
            "12.5 objects an image. Both sides read the same json of the ground truth; hotcoco "
            "reads the detections from its json, lt_det has them as arrays. Processor time of one "
            "thread, each side in a process of its own (both peaks hold its imports)."
        ),
        command="python benchmarks/evaluation_lvis_size.py"
        + (" --small" if arguments.small else ""),
        repeats=REPEATS,
        extra=f"Load of the machine's {os.cpu_count()} cores, by one minute: {load}.",
    )


if __name__ == "__main__":
    main()
