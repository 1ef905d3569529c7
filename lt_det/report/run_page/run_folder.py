"""Read what the folder of a run holds: ours, Detectron2's, or that of ``lt-det balance``."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.report.run_page.recorded_config import RecordedConfig
from lt_det.report.runs import TASK_NAMES
from lt_det.storage.regular_file import open_regular

#: Files of detections by Detectron2's evaluators.
DETECTIONS = ("coco_instances_results.json", "lvis_instances_results.json")
_ANALYSES = {"analysis": "analysis_{}.json", "matches": "matches_{}.npz"}
_METRIC = re.compile(r"(?:.*/)?(bbox|segm)/(AP.*)")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation of boxes, masks or images says.

    Attributes:
        summary: metric -> percent, None where undefined.
        categories: one record a class: name, group, AP or accuracy, counts; some may lack.
        source: file that it is from.
        about: other entries of that file: data set, backend, limits.
        analysis: content of analysis_<task>.json, None without.
        matches: path of matches_<task>.npz, None without.
    """

    summary: Mapping[str, float | None]
    categories: Sequence[Mapping[str, Any]]
    source: str
    about: Mapping[str, Any] = field(default_factory=dict)
    analysis: Mapping[str, Any] | None = None
    matches: str | None = None

    @property
    def metric(self) -> str:
        """Figure of a class: "AP", or "accuracy" of an image classifier."""
        return "accuracy" if self.categories and "accuracy" in self.categories[0] else "AP"


@dataclass(frozen=True)
class RunFolder:
    """What a run has left.

    Attributes:
        folder: of the run.
        inference: folder of its evaluation; None if it has none.
        results: task -> evaluation.
        config: config.yaml.
        record: content of results.json, or where a balance is from; {} without.
        balance: content of balance_result.json, None without.
        metrics: lines of metrics.json.
        detections: path of the file of detections, None without.
        log: first lines of log.txt, with the versions.
    """

    folder: str
    inference: str | None
    results: Mapping[str, Evaluated]
    config: RecordedConfig
    record: Mapping[str, Any]
    balance: Mapping[str, Any] | None
    metrics: Sequence[Mapping[str, Any]]
    detections: str | None
    log: str

    def main_task(self) -> str | None:
        """Return "segm", "bbox" or "classification": the first that was evaluated."""
        return next((t for t in ("segm", "bbox", "classification") if t in self.results), None)


def read_run_folder(folder: str | os.PathLike[str], *, dataset: str | None = None) -> RunFolder:
    """Return what is in the folder of a run.

    Args:
        folder: OUTPUT_DIR of a training or an evaluation, its inference folder, or the output of
            ``lt-det balance``.
        dataset: which test set of several; None takes the first by name.

    Raises:
        FileNotFoundError: if there is no such folder, or no result in it.
        ValueError: if a file is no json of its kind.
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder} is no folder: give the OUTPUT_DIR of a run")
    inference = _inference(folder, dataset)
    metrics = _lines(os.path.join(folder, "metrics.json"))
    results = {} if inference is None else _results(inference)
    results = results or _from_metrics(folder, metrics)
    balance = _json(os.path.join(folder, "balance_result.json"), of="candidates")
    detections = None
    if inference is not None:
        paths = [os.path.join(inference, name) for name in DETECTIONS]
        detections = next((path for path in paths if os.path.isfile(path)), None)
    if not results and balance is None and detections is None:
        started = os.path.isfile(os.path.join(folder, "metrics.json"))
        raise FileNotFoundError(
            f"{folder} has no results of an evaluation (inference/per_category_*.json, "
            f"*_instances_results.json, AP in metrics.json, or balance_result.json): "
            + (
                "the training is not over, or was not evaluated: lt-det evaluate --config-file "
                f"{os.path.join(folder, 'config.yaml')} --resume"
                if started
                else "give the OUTPUT_DIR of a run"
            )
        )
    return RunFolder(
        folder,
        inference,
        results,
        RecordedConfig.read(folder),
        _json(os.path.join(folder, "results.json"), of="results") or _origin(balance),
        balance,
        metrics,
        detections,
        _start(os.path.join(folder, "log.txt")),
    )


def _origin(balance: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return where a balance is from, {} where it does not say so."""
    found = (balance or {}).get("origin")
    return found if isinstance(found, dict) else {}


def _inference(folder: str, dataset: str | None) -> str | None:
    """Return the folder with the results of a test set."""
    within = os.path.join(folder, "inference")
    sets = sorted(glob.glob(os.path.join(glob.escape(within), "*", "")))
    names = [os.path.basename(path.rstrip(os.sep)) for path in sets if _has_results(path)]
    if dataset is not None and names:
        if dataset not in names:
            raise ValueError(
                f"{folder} was not evaluated on {dataset!r}, but on {', '.join(names)}"
            )
        return os.path.join(within, dataset)
    candidates = [within, *(os.path.join(within, name) for name in names), folder]
    return next((path for path in candidates if _has_results(path)), None)


def _has_results(folder: str) -> bool:
    names = [*DETECTIONS, *(f"per_category_{task}.json" for task in TASK_NAMES)]
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def _results(folder: str) -> dict[str, Evaluated]:
    results = {}
    for task in TASK_NAMES:
        path = os.path.join(folder, f"per_category_{task}.json")
        content = _json(path, of="categories")
        if content is None:
            continue
        records = content["categories"]
        if not isinstance(records, list) or not all(
            isinstance(r, dict) and isinstance(r.get("name"), str) for r in records
        ):
            raise ValueError(f"{path}: categories must be records with a name; evaluate again")
        matches = os.path.join(folder, _ANALYSES["matches"].format(task))
        results[task] = Evaluated(
            content.get("summary") or {},
            records,
            path,
            {k: v for k, v in content.items() if k not in ("summary", "categories")},
            _json(os.path.join(folder, _ANALYSES["analysis"].format(task)), of="groups"),
            matches if os.path.isfile(matches) else None,
        )
    return results


def evaluated_in(folder: str) -> dict[str, Evaluated]:
    """Return task -> evaluation of the files in a folder, as ``lt-det evaluate`` writes them."""
    return _results(folder)


def _from_metrics(folder: str, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Evaluated]:
    """Return what Detectron2's evaluators wrote into metrics.json last."""
    path, results = os.path.join(folder, "metrics.json"), {}
    for task in ("segm", "bbox"):
        found: dict[str, float | None] = {}
        for line in metrics:
            pairs = ((_METRIC.fullmatch(k), v) for k, v in line.items())
            of_task = {
                m[2]: v if isinstance(v, (int, float)) and v == v else None
                for m, v in pairs
                if m and m[1] == task
            }
            found = of_task or found
        if found:
            results[task] = Evaluated(
                {k: v for k, v in found.items() if not k.startswith("AP-")},
                [
                    {"name": k.removeprefix("AP-"), "AP": v}
                    for k, v in found.items()
                    if k.startswith("AP-")
                ],
                path,
            )
    return results


def _json(path: str, *, of: str) -> Any:
    """Return the content of a json with the key ``of``, None where there is no file."""
    if not os.path.isfile(path):
        return None
    try:
        with open_regular(path, "r", encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no json: {error}; evaluate the run again") from error
    if not isinstance(content, dict) or of not in content:
        raise ValueError(f"{path}: expected a json object with {of!r}; evaluate the run again")
    return content


def _lines(path: str) -> list[dict[str, Any]]:
    """Return the records of metrics.json; a line that was cut off is left out."""
    lines: list[dict[str, Any]] = []
    if os.path.isfile(path):
        with open_regular(path, "r", encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                lines += [record] if isinstance(record, dict) else []
    return lines


def _start(path: str, *, characters: int = 20000) -> str:
    if not os.path.isfile(path):
        return ""
    with open_regular(path, "r", encoding="utf-8", errors="replace") as file:
        return str(file.read(characters))
