"""LVIS evaluation of synthetic detections: lvis-api against lt_det, boxes and masks.

    python benchmarks/evaluation.py [--small]

Each side runs in a process of its own, with the predictions as its evaluator holds them when the
last image is done: a list of dictionaries for lvis-api, arrays for lt_det. Measured is from there
to the metrics, the json of the ground truth included, in processor time of one thread.

Boxes of 1/20 and 1/10 of LVIS v1 validation on both sides, all of it with lt_det; lvis-api would
need over 20 GB there, so its values are extrapolated linearly. ``--small``: 200 images.
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

import numpy as np
import pycocotools.mask as mask_utils
import synthetic_lvis
from timing import Row, peak_mb, write_rows
from tqdm import tqdm

PER_IMAGE = 300
REPEATS = 5
SAME = "same metrics to 1e-9"


def make_input(folder: Path, *, num_images: int, with_masks: bool) -> None:
    """Write gt.json and detections.npz."""
    synthetic_lvis.write_json(folder / "gt.json", num_images=num_images)
    rng = np.random.default_rng(1)
    columns: dict[str, list] = {"image_ids": [], "boxes": [], "scores": [], "classes": []}
    codes: list[bytes] = []
    for image, objects in tqdm(
        synthetic_lvis.annotated_images(num_images=num_images), total=num_images, disable=None
    ):
        boxes, scores, classes = synthetic_lvis.image_detections(
            image, objects, count=PER_IMAGE, rng=rng
        )
        boxes[:, 2:] -= boxes[:, :2]
        for name, values in (("boxes", boxes), ("scores", scores), ("classes", classes)):
            columns[name].append(values)
        columns["image_ids"].append(np.full(PER_IMAGE, image["id"]))
        if with_masks:
            ovals = [synthetic_lvis.polygons(box, rng)[:1] for box in boxes.tolist()]
            size = (synthetic_lvis.HEIGHT, synthetic_lvis.WIDTH)
            codes += [mask_utils.frPyObjects(oval, *size)[0]["counts"] for oval in ovals]
    np.savez(
        folder / "detections.npz",
        **{name: np.concatenate(values) for name, values in columns.items()},
        codes=np.frombuffer(b"".join(codes), dtype=np.uint8),
        code_lengths=np.array([len(code) for code in codes], dtype=np.int32),
    )


def held(folder: Path, iou_type: str) -> Any:
    """Return the detections as lt_det's evaluator holds them."""
    from lt_det.evaluation.detections import Detections
    from lt_det.evaluation.lvis.encoded_masks import EncodedMasks

    data = dict(np.load(folder / "detections.npz"))
    masks = None
    if iou_type == "segm":
        size = np.array([[synthetic_lvis.HEIGHT, synthetic_lvis.WIDTH]], dtype=np.int32)
        masks = EncodedMasks.joined(
            data["codes"],
            lengths=data["code_lengths"],
            sizes=np.repeat(size, len(data["code_lengths"]), axis=0),
        )
    return Detections(
        image_ids=data["image_ids"],
        category_ids=data.pop("classes") + 1,
        scores=data["scores"],
        boxes=data["boxes"],
        masks=masks,
    )


def run_lt_det(folder: Path, iou_type: str) -> dict[str, Any]:
    from lt_det.evaluation.lvis.average_precision import lvis_average_precision

    detections = held(folder, iou_type)
    start = time.process_time()
    result = lvis_average_precision(folder / "gt.json", detections, iou_type=iou_type)
    seconds = time.process_time() - start
    return {"seconds": seconds, "mb": peak_mb(), "metrics": result.summary}


def run_lvis_api(folder: Path, iou_type: str) -> dict[str, Any]:
    import lvis

    if not hasattr(np, "float"):
        np.float = float  # the package's release 0.5.3 needs it
    records = dictionaries(folder, iou_type)
    start = time.process_time()
    truth = lvis.LVIS(str(folder / "gt.json"))
    results = lvis.LVISResults(truth, records, max_dets=PER_IMAGE)
    evaluation = lvis.LVISEval(truth, results, iou_type)
    evaluation.run()
    seconds = time.process_time() - start
    metrics = {k: 100 * v for k, v in evaluation.get_results().items() if k.startswith("AP")}
    return {"seconds": seconds, "mb": peak_mb(), "metrics": metrics}


def dictionaries(folder: Path, iou_type: str) -> list[dict[str, Any]]:
    """Return the detections as Detectron2's evaluator holds them."""
    data = dict(np.load(folder / "detections.npz"))
    size = [synthetic_lvis.HEIGHT, synthetic_lvis.WIDTH]
    ends = np.cumsum(data["code_lengths"], dtype=np.int64)
    records = []
    for row, box in enumerate(data["boxes"]):
        record: dict[str, Any] = {
            "image_id": int(data["image_ids"][row]),
            "category_id": int(data["classes"][row]) + 1,
            "score": float(data["scores"][row]),
        }
        if iou_type == "bbox":
            record["bbox"] = box.tolist()
        else:
            code = data["codes"][ends[row] - data["code_lengths"][row] : ends[row]]
            record["segmentation"] = {"size": size, "counts": code.tobytes()}
        records.append(record)
    return records


SIDES = {"lvis-api": run_lvis_api, "lt_det": run_lt_det}


def in_process(side: str, folder: Path, iou_type: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, str(folder), iou_type]
    # Processor time of one thread: what else the machine does plays no role in it.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=one_thread)
    return json.loads(result.stdout.strip().splitlines()[-1])


def compare(iou_type: str, num_images: int, *, repeats: int, sides: list[str]) -> dict[str, dict]:
    """Return side -> median seconds and MB; raise if the metrics differ."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_input(folder, num_images=num_images, with_masks=iou_type == "segm")
        runs: dict[str, list] = {side: [] for side in sides}
        for _ in range(repeats):
            for side in sides:
                runs[side].append(in_process(side, folder, iou_type))
                print(iou_type, num_images, side, runs[side][-1], flush=True)
    metrics = [run[0]["metrics"] for run in runs.values()]
    for metric in set.intersection(*map(set, metrics)):
        value = metrics[0][metric]
        if not all(abs(other[metric] - value) < 1e-9 for other in metrics):
            raise AssertionError(f"{metric} differs: {[other[metric] for other in metrics]}")
    return {
        side: {key: statistics.median(run[key] for run in done) for key in ("seconds", "mb")}
        for side, done in runs.items()
    }


def rows(what: str, measured: dict[str, dict], note: str = "") -> list[Row]:
    theirs, ours = measured["lvis-api"], measured["lt_det"]
    target = 10 if what.startswith("masks") else 50
    return [
        Row(f"{what}: time", theirs["seconds"], ours["seconds"], "s", target, "lvis-api", note),
        Row(
            f"{what}: peak memory",
            theirs["mb"],
            ours["mb"],
            "MB",
            None if what.startswith("masks") else 3,
            "lvis-api",
            note,
        ),
    ]


def full_rows(small: dict, large: dict, whole: dict, masks: dict) -> list[Row]:
    """Return the rows of 1/20, 1/10 and all of the boxes, and of 1/40 of the masks."""
    val = synthetic_lvis.VAL_IMAGES
    first, second = small["lvis-api"], large["lvis-api"]
    # From two twentieths to twenty: eighteen more steps of the same height.
    all_of_it = {key: second[key] + 18 * (second[key] - first[key]) for key in first}
    found = rows(f"boxes, {val // 20:,} images", small, SAME)
    found += rows(f"boxes, {val // 10:,} images", large, SAME)
    found += rows(
        f"boxes, {val:,} images",
        {"lvis-api": all_of_it, "lt_det": whole["lt_det"]},
        "lvis-api: extrapolated from 1/20 and 1/10",
    )
    return found + rows(f"masks, {val // 40:,} images", masks, SAME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="200 images, not for the page")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side, folder, iou_type = arguments.side
        print(json.dumps(SIDES[side](Path(folder), iou_type)))
        return
    both, val = list(SIDES), synthetic_lvis.VAL_IMAGES
    about = (
        f"{PER_IMAGE} detections an image, {synthetic_lvis.NUM_CATEGORIES} classes, 12.5 objects "
        "an image, lists of absent and not exhaustively annotated classes. From the predictions "
        "as the evaluator holds them to the metrics; processor time of one thread, each "
        "side in a process of its own (both peaks hold its imports)."
    )
    if arguments.small:
        found = rows("boxes, 200 images", compare("bbox", 200, repeats=REPEATS, sides=both), SAME)
        found += rows("masks, 100 images", compare("segm", 100, repeats=REPEATS, sides=both), SAME)
        title, topic = "LVIS evaluation, small", "evaluation_small"
        about += " At this size fixed costs of both sides hide much of the difference."
    else:
        small = compare("bbox", val // 20, repeats=REPEATS, sides=both)
        large = compare("bbox", val // 10, repeats=1, sides=both)
        whole = compare("bbox", val, repeats=REPEATS, sides=["lt_det"])
        masks = compare("segm", val // 40, repeats=REPEATS, sides=both)
        found = full_rows(small, large, whole, masks)
        title, topic = "LVIS evaluation", "evaluation"
        about += " A tenth of the images is evaluated once."
    command = "python benchmarks/evaluation.py" + (" --small" if arguments.small else "")
    write_rows(topic, found, title=title, about=about, command=command, repeats=REPEATS)


if __name__ == "__main__":
    main()
