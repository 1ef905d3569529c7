"""Start-up to the first batch, and memory of the loader's workers: Detectron2 against lt_det.

    python benchmarks/loading.py [--small]

On a synthetic json of LVIS v1 train's size (100,170 images, 1.27 million annotations with
polygons; needs 6 GB of memory), with ``--small`` of a tenth. Records are handed out as they are:
images are not read, which takes both sides the same time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import synthetic_lvis
from timing import MEGABYTE, Row, peak_mb, write_rows

NAME = "lvis_v1_benchmark"  # Detectron2 takes the classes of LVIS v1 from a name with "v1"
NUM_WORKERS = 2
REPEATS = 5
NUM_READ = 5000


def records_of(side: str, json_file: str, cache: str) -> Any:
    """Return the records as the loader holds them."""
    from detectron2.data import get_detection_dataset_dicts
    from detectron2.data.common import DatasetFromList
    from detectron2.data.datasets import register_lvis_instances

    from lt_det.data.records.dataset_dicts import detection_dicts

    register_lvis_instances(NAME, {}, json_file, "images/")
    if side == "lt_det":
        return detection_dicts([NAME], cache_dir=cache)
    return DatasetFromList(get_detection_dataset_dicts([NAME]), copy=False)


def run_start(side: str, json_file: str, cache: str) -> dict[str, float]:
    """Load the records, start the workers and take a batch."""
    import detectron2.data  # noqa: F401  # imports are not part of what is compared
    from detectron2.data.samplers import TrainingSampler

    import lt_det.data.records.dataset_dicts  # noqa: F401
    from lt_det.engine.loading.train_stream import TrainStream

    start = time.perf_counter()
    items = records_of(side, json_file, cache)
    stream = TrainStream(
        items,
        sampler=TrainingSampler(len(items), seed=0),
        ims_per_batch=4,
        num_workers=NUM_WORKERS,
    )
    batches = iter(stream)
    batch = next(batches)
    seconds = time.perf_counter() - start
    checksum = sum(len(record["annotations"]) + record["image_id"] for record in batch)
    return {"seconds": seconds, "mb": peak_mb(), "checksum": checksum, "records": len(items)}


def private_mb() -> float:
    """Return the memory that ends with this process: what no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(s.split()[1]) for s in lines if s.startswith("Private_")) / 1024


def _worker(items: Any, indices: list[int], barrier: Any, queue: Any) -> None:
    for index in indices:
        items[index % len(items)]
    barrier.wait()  # all hold at the same time what they share
    queue.put(private_mb())
    barrier.wait()


def worker_mb(items: Any, method: str) -> float:
    """Return the private memory of a worker after it read records, mean of the workers."""
    import numpy as np

    context = multiprocessing.get_context(method)
    barrier, queue = context.Barrier(NUM_WORKERS), context.Queue()
    indices = np.random.default_rng(0).integers(2**40, size=NUM_READ).tolist()
    workers = [
        context.Process(target=_worker, args=(items, indices, barrier, queue))
        for _ in range(NUM_WORKERS)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    return statistics.mean(found)


def run_workers(side: str, json_file: str, cache: str) -> dict[str, float]:
    """Return by how much a worker with all records is larger than one with a single record."""
    items = records_of(side, json_file, cache)
    one = [items[0]]
    found = {}
    for method in ("fork", "spawn"):
        found[method] = worker_mb(items, method) - worker_mb(one, method)
    return found


RUNS = {"start": run_start, "workers": run_workers}


def in_process(kind: str, side: str, json_file: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", kind, side, str(json_file), str(cache)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(result.stdout.strip().splitlines()[-1])
    print(kind, side, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tenth, not for the page")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, side, json_file, cache = arguments.run
        print(json.dumps(RUNS[kind](side, json_file, cache)))
        return
    num_images = synthetic_lvis.TRAIN_IMAGES // (10 if arguments.small else 1)
    with tempfile.TemporaryDirectory() as folder:
        json_file, cache = Path(folder) / "train.json", Path(folder) / "cache"
        synthetic_lvis.write_json(json_file, num_images=num_images)
        json_mb = os.path.getsize(json_file) / MEGABYTE
        time.sleep(4)  # a file that just changed is hashed at every start
        first = in_process("start", "lt_det", json_file, cache)
        starts: dict[str, list] = {"Detectron2": [], "lt_det": []}
        for _ in range(REPEATS):
            for side, runs in starts.items():
                runs.append(in_process("start", side, json_file, cache))
        workers = {side: in_process("workers", side, json_file, cache) for side in starts}
        data_mb = next(cache.glob("records_*.bin")).stat().st_size / MEGABYTE
    if len({run["checksum"] for runs in starts.values() for run in runs}) != 1:
        raise AssertionError(f"the batches differ: {starts}")
    stock, ours = (
        {key: statistics.median(run[key] for run in runs) for key in ("seconds", "mb")}
        for runs in starts.values()
    )
    what = f"{num_images:,} images"
    rows = [
        Row(f"{what}: start to first batch", stock["seconds"], ours["seconds"], "s", 5),
        Row(f"{what}: the very first start", stock["seconds"], first["seconds"], "s"),
        Row(f"{what}: peak memory of the main process", stock["mb"], ours["mb"], "MB"),
    ]
    rows += [
        Row(
            f"{what}: private memory of a worker ({method})",
            max(workers["Detectron2"][method], 0.1),
            max(workers["lt_det"][method], 0.1),
            "MB",
            note=f"{100 * workers['lt_det'][method] / data_mb:.1f} % of the data set; target 10 %",
        )
        for method in ("fork", "spawn")
    ]
    write_rows(
        "loading_small" if arguments.small else "loading",
        rows,
        title="Loading a data set" + (", small" if arguments.small else ""),
        about=(
            f"A synthetic json of {json_mb:.0f} MB in LVIS v1's format, {data_mb:.0f} MB as "
            "pickled records. From the second start on lt_det maps them from its cache; "
            f"Detectron2 parses the json with lvis-api and pickles the records. {NUM_WORKERS} "
            "workers, records handed out without reading images. Worker: private memory after "
            f"{NUM_READ:,} records, above that of a worker with one record. Times are "
            "of the wall clock; the very first start, which parses and writes the cache, and the "
            "memory of workers were measured once."
        ),
        command="python benchmarks/loading.py" + (" --small" if arguments.small else ""),
        repeats=REPEATS,
    )


if __name__ == "__main__":
    main()
