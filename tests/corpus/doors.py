"""The ways by which a file gets into the package, and what became of it."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import annotations_to_instances
from PIL import Image

from lt_det.cli.commands import main
from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.records.dataset_dicts import detection_dicts
from lt_det.data.stats.stats_cache import class_stats_of_json, evaluation_stats_of_json
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from tests.corpus.annotation_files import SIDE, Case
from tests.corpus.detection_files import good_detections

_LONGEST = 1000  # characters of a message that a person still reads
_COUNTER = itertools.count()


class LateError(Exception):
    """The file was let in, and what came after stumbled over it."""


def statistics(path: Path) -> None:
    class_stats_of_json(path, name="corpus.json", cache_dir=path.parent / "cache")


def training(path: Path) -> None:
    name = f"corpus.json {next(_COUNTER)}"
    try:
        register_lvis_format(name, path, path.parent)
        records = detection_dicts(name, cache_dir=path.parent / "cache")
        with _later():
            # With masks where all have one, as MODEL.MASK_ON is checked before a training.
            with_masks = all("segmentation" in a for r in records for a in r["annotations"])
            for record in records:
                kept = [one for one in record["annotations"] if not one.get("iscrowd", 0)]
                if not with_masks:
                    kept = [{k: v for k, v in a.items() if k != "segmentation"} for a in kept]
                boxes = [{**one, "bbox_mode": 0, "bbox": _corners(one["bbox"])} for one in kept]
                instances = annotations_to_instances(
                    boxes, (record["height"], record["width"]), mask_format="bitmask"
                )
                assert not with_masks or not kept or instances.gt_masks.tensor.shape[0] == len(kept)
                Path(record["file_name"]).exists()
    finally:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


def test_set(path: Path) -> None:
    stats = evaluation_stats_of_json(path, name="corpus.json", cache_dir=path.parent / "cache")
    with _later():
        assert stats.num_images


def ground_truth(path: Path) -> None:
    truth = read_ground_truth(path, with_masks=True, name="corpus.json")
    with _later():
        found = good_detections()
        masks = all(one.get("segmentation") for one in truth.annotations)
        for kind in ("bbox", "segm") if masks else ("bbox",):
            result = lvis_average_precision(truth, found, iou_type=kind)
            assert np.isfinite(result.summary["AP"])


def check_data(path: Path) -> None:
    """Raise ValueError with what it printed where its status says that training would fail."""
    images = path.parent / "images"
    if not images.exists():
        images.mkdir()
        for number in (1, 2, 3):
            Image.new("RGB", (SIDE, SIDE)).save(images / f"{number}.png")
    _command(["check-data", "--train", str(path), "--images", str(images)], errors_only=True)


DOORS: dict[str, Callable[[Path], None]] = {
    "statistics": statistics,
    "training": training,
    "test set": test_set,
    "ground truth": ground_truth,
    "check-data": check_data,
}


def detections(path: Path) -> None:
    """Evaluate a file of detections on the command line."""
    _command(["evaluate", str(path.parent / "truth.json"), str(path)])


def outcome(door: Callable[[Path], None], name: str, case: Case, path: Path) -> str:
    """Return "clear", or what it was instead: "silent: ...", "late: ...", "bare: ..."."""
    path.write_bytes(case.content)
    try:
        door(path)
    except LateError as error:
        return f"late: {type(error.__cause__).__name__}: {error.__cause__}"
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if type(error) not in (ValueError, FileNotFoundError):  # e.g. UnicodeEncodeError
            return f"bare: {type(error).__name__}: {text:.200}"
        lines = text.splitlines()
        if not any(re.search(case.message, line) for line in lines):
            return f"bare: says nothing of {case.message!r}: {text:.300}"
        if "corpus" not in text or max(map(len, lines)) > _LONGEST:
            return f"bare: names no file, or is too long: {text:.300}"
        if len(lines) > 1 and name != "check-data":
            return f"bare: of several lines: {text:.300}"
        return "clear"
    except BaseException as error:
        return f"bare: {type(error).__name__}: {error!s:.200}"
    return "clear" if name in case.may_pass else "silent"


@contextlib.contextmanager
def _later():
    try:
        yield
    except Exception as error:
        raise LateError from error


def _corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _command(words: list[str], *, errors_only: bool = False) -> None:
    """Raise ValueError with what a command printed where it failed as it should."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    if status:
        text = out.getvalue() if errors_only else err.getvalue()
        if errors_only:  # the part above the warnings
            text = re.split(r"\n(?:WARNINGS|NOTES|\n)", text)[0]
        raise ValueError(text.strip())
