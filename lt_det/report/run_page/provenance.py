"""Say where the numbers are from: config, commit, seed, data, limits, versions, machine."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from lt_det.report.page import Cell, Section
from lt_det.report.run_page.material import Material
from lt_det.report.run_page.methods import Method
from lt_det.report.run_page.recorded_config import RecordedConfig
from lt_det.report.run_page.run_folder import RunFolder
from lt_det.report.run_page.training_facts import registered_json
from lt_det.storage.cache_folder import usable_cache_folder
from lt_det.storage.digest import content_hash

_UNKNOWN = "not recorded"
# Keys of configs in the table of differences, and letters of a value.
_MOST_KEYS, _LONGEST = 40, 200
# Lines of the table that Detectron2 writes at the start of log.txt.
_IN_LOG = {
    "torch": r"PyTorch\s{2,}(\S+)",
    "detectron2": r"detectron2\s{2,}(\S+)",
    "python": r"Python\s{2,}(\S+)",
}
_GPU_IN_LOG = r"GPU [\d,]+\s{2,}([^\n(]+)"


def provenance(
    material: Material, *, defaults: Mapping[str, Any] | None = None
) -> tuple[Section, list[dict[str, Any]]]:
    """Return the part of the page, and its entries for each run.

    Args:
        material: of the page.
        defaults: content of a config; keys that are as there are not shown as differences.
    """
    runs = [(method, run) for method in material.all_methods for run in method.runs]
    entries = [_entries(method, run, material) for method, run in runs]
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = []
    lacking = [k for k in keys if all(e.get(k, _UNKNOWN) == _UNKNOWN for e in entries)]
    for key in (key for key in keys if key not in lacking):
        values = [entry.get(key, _UNKNOWN) for entry in entries]
        if len(entries) > 1 and len(set(values)) == 1 and len(values[0]) < 400:
            rows.append(
                [
                    key,
                    Cell(values[0], kind="long"),
                    *[Cell("same", kind="quiet")] * (len(values) - 1),
                ]
            )
        else:
            rows.append(
                [
                    key,
                    *(
                        Cell(value, kind="long quiet" if key == "command" else "long")
                        for value in values
                    ),
                ]
            )
    header = ["", *(entry["run"] for entry in entries)]
    return (
        Section(
            "Where the numbers are from",
            [f"Not recorded: {', '.join(lacking)}."] if lacking else [],
            header=header,
            rows=[row for row in rows if row[0] != "run"],
            anchor="provenance",
            short="Provenance",
            parts=_config_differences(material, defaults or {}),
        ),
        [{"method": method.name, **entry} for (method, _), entry in zip(runs, entries)],
    )


def _config_differences(material: Material, defaults: Mapping[str, Any]) -> list[Section]:
    """Return a table of the keys that the configs of the methods differ in, [] without."""
    known = [m for m in material.all_methods if m.runs[0].config.content]
    chosen = [m.runs[0].config.chosen(defaults) for m in known]
    usual = RecordedConfig(defaults).chosen({})
    keys = [
        key
        for key in sorted({k for c in chosen for k in c})
        if len({str(c.get(key)) for c in chosen}) > 1
    ]
    if not keys:
        return []
    rows = [
        [
            key,
            *(
                Cell(str(c[key])[:_LONGEST], kind="long")
                if key in c
                else Cell(str(usual.get(key, "–"))[:_LONGEST], kind="long quiet")
                for c in chosen
            ),
        ]
        for key in keys[:_MOST_KEYS]
    ]
    more = len(keys) - len(rows)
    return [
        Section(
            "What the configs differ in",
            ["Grey: the default."]
            + ([f"{more} more keys are left out: see config.yaml of the runs."] if more else []),
            ["key", *(m.name for m in known)],
            rows,
        )
    ]


def data_line(material: Material) -> str:
    """Return the evaluated data set and its size in one line."""
    sets = {
        _test_set(run): None
        for method in material.methods
        for run in method.runs
        if material.task in run.results
    }
    words = {"r": "rare", "c": "common", "f": "frequent"}
    sizes = [f"{sum(c.group == g for c in material.classes)} {words[g]}" for g in material.groups]
    classes = f"{len(material.classes):,} classes" + (f" ({', '.join(sizes)})" if sizes else "")
    if len({digest or name for name, digest in sets}) > 1:
        classes += ". The runs were evaluated on different sets"
    names = " and ".join(dict.fromkeys(name or "a test set" for name, _ in sets))
    against = f" Others are compared to {material.methods[0].name}." * (len(material.methods) > 1)
    return f"{material.what[:1].upper()}{material.what[1:]} on {names}, {classes}.{against}"


def _test_set(run: RunFolder) -> tuple[str, str | None]:
    """Return name and hash of the test set."""
    task = run.main_task()
    name = str((run.results[task].about.get("dataset") if task else None) or "")
    found = registered_json(run, "TEST", name)
    path = name if os.path.isfile(name) else found[0] if found else None
    used = run.config.test_sets
    if found is not None and path is not None and os.path.samefile(path, found[0]):
        name = name if name in used else used[0]
    name = os.path.basename(name) if os.path.isfile(name) else name or (used[0] if used else "")
    digest = None
    if path is not None:
        with contextlib.suppress(OSError, ValueError):
            digest = content_hash(path, cache_dir=usable_cache_folder())[:16]
    return name, digest


def _entries(method: Method, run: RunFolder, material: Material) -> dict[str, str]:
    record, is_many = run.record, len(method.runs) > 1
    seed = record.get("seed", run.config.seed)
    facts = material.facts[run.folder]
    task = material.task if material.task in run.results else run.main_task()
    about = run.results[task].about if task else {}
    known = run.config.facts()
    test_set, digest = _test_set(run)
    entry = {
        "run": f"{method.name}, seed {seed}" if is_many else method.name,
        **{key: known[key] for key in ("model", "loss", "sampler", "meta learner")},
        "seed": seed,
        "commit": record.get("commit"),
        "iterations": record.get("iterations") or known["iterations"],
        "training set": ", ".join(run.config.training_sets),
        "training images": f"{facts.stats.num_images:,}" if facts.stats else None,
        "test set": test_set,
        "test set, sha256": digest,
        "evaluated with": about.get("backend") or (None if about or not task else "Detectron2"),
        "score threshold": known["score threshold"],
        "NMS": known["NMS"],
        "detections an image": about.get("max_dets") or known["detections an image"],
        **_software(run),
        "folder": run.folder,
        "config": run.config.path,
        "weights": record.get("weights") or facts.checkpoint,
        "result file": run.results[task].source if task else None,
        "command": record.get("command"),
    }
    return {key: _UNKNOWN if value in (None, "") else str(value) for key, value in entry.items()}


def _software(run: RunFolder) -> dict[str, str | None]:
    versions = run.record.get("versions")
    if isinstance(versions, dict):
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
    else:
        found = {name: re.search(pattern, run.log) for name, pattern in _IN_LOG.items()}
        text = ", ".join(f"{name} {match[1]}" for name, match in found.items() if match)
    machine = run.record.get("machine")
    if isinstance(machine, dict):
        gpu = machine.get("gpu")
        where = f"{machine.get('processor')}, {machine.get('cpus')} CPUs, {gpu or 'no GPU'}"
    else:
        match = re.search(_GPU_IN_LOG, run.log)
        where = match[1].strip() if match else ""
    return {"versions": text, "machine": where}
