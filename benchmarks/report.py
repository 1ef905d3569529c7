"""Write docs/reference/benchmarks.md, with pictures in docs/images, from benchmarks/results.

python benchmarks/report.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tabulate import tabulate
from timing import REPOSITORY, RESULTS

PAGE = REPOSITORY / "docs" / "reference" / "benchmarks.md"
GPU_CHECK = RESULTS / "gpu_check"
PICTURE = REPOSITORY / "docs" / "images" / "benchmarks.png"

#: Rows of the picture, what a user waits for or pays memory for, and how it calls them.
HEADLINES = {
    "COCO photos, 1,203 classes, training": "Mask R-CNN, 1,203 classes: training step",
    "COCO photos, 1,203 classes, inference": "Mask R-CNN, 1,203 classes: inference",
    "softmax head, 1,203 classes, trained, class-agnostic": "post-processing, 1,203 classes",
    "boxes, 19,809 images: time": "evaluation of LVIS boxes: time",
    "boxes, 19,809 images: peak memory": "evaluation of LVIS boxes: memory",
    "100,170 images: start to first batch": "start of a training on LVIS (cached)",
    "plain second stage from cached regions": "second stage from cached regions",
    "candidate of balance, 1203 classes, 1000 regions": "one candidate of lt-det balance",
    "BALMS, meta regions from the rolling bank, against a plain iteration": (
        "BALMS step, rolling bank"
    ),
    "BALMS, meta regions by a forward, against a plain iteration": "BALMS step, fresh regions",
}
FINE, MISSED = "#0072B2", "#D55E00"

HEAD = """# Benchmarks

Written by `make bench` from the files in `benchmarks/results`: change those by measuring, not
this page.

Both sides of a row run in turns, in one process unless the section says otherwise. Times are
medians, of the processor with one thread unless it says so. A ratio above 1 means that lt_det is
better (faster, smaller). "Target" is the ratio that was aimed at; a ratio in **bold** misses it.

![ratios of ten rows](../images/benchmarks.png)

The picture has ten rows, the tables below have all.
"""


def load(device: str) -> dict[str, dict[str, Any]]:
    """Return topic -> content of its file measured on ``device``; files of other pages are left."""
    contents = {}
    for path in sorted(RESULTS.glob("*.json")):
        topic, _, suffix = path.stem.partition(".")
        content = json.loads(path.read_text())
        # Beside them lie the records of other tables.
        if (suffix or "cpu") == device and isinstance(content, dict) and "title" in content:
            contents[topic] = content
    return contents


def load_gpu_check() -> list[dict[str, Any]]:
    """Return what the parts of benchmarks/gpu_check found on a GPU; [] if none was at hand."""
    contents = [json.loads(path.read_text()) for path in sorted(GPU_CHECK.glob("*.json"))]
    return [one for one in contents if one.get("machine", {}).get("device") == "cuda"]


def gpu_section(contents: list[dict[str, Any]]) -> str:
    """Return the section of the check of a GPU."""
    about = (
        "## On a GPU\n\n`make gpu-check` compares with the CPU and with Detectron2 on a machine "
        "with CUDA in 8 minutes: losses, heads, post-processing, mixed precision, resume, NCCL; "
        "times, peak memory and how often a step makes the host wait; CIFAR-10-LT. "
    )
    if not contents:
        return about + "**Not measured**: no GPU was at hand."
    machine = contents[0]["machine"]
    about += (
        f"{machine['name']}; Python {machine['python']}, torch {machine['torch']}; commit "
        f"{machine['commit']}."
    )
    checks = [check for one in contents for check in one["checks"]]
    wrong = [check for check in checks if check["ok"] is False]
    oks = sum(check["ok"] is True for check in checks)
    lines = [f"{oks} checks hold, {len(wrong)} do not."]
    lines += [f"- {check['name']}: {check['detail']}" for check in wrong]
    for one in contents:
        if one["state"] != "done":
            lines.append(f"- {one['part']}: {one['state']} after {one['seconds']:.0f} s")
    rows = [row for one in contents for row in one["rows"]]
    values = [
        [
            row["name"],
            f"{row['baseline_name']} {number(row['baseline'])} {row['unit']}",
            f"{number(row['ours'])} {row['unit']}",
            ratio(row),
        ]
        for row in rows
    ]
    header = ["what", "baseline", "lt_det", "ratio"]
    table_of_rows = tabulate(values, header, tablefmt="github", disable_numparse=True)
    notes = [f"- {one['part']}: {note}" for one in contents for note in one["notes"]]
    said = [
        f"- {c['name']}: {c['detail']}"
        for c in checks
        if c["name"].startswith(("CIFAR", "host waits"))
    ]
    blocks = [about, "\n".join(lines), table_of_rows, "\n".join([*said, *notes])]
    return "\n\n".join(block for block in blocks if block)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(row: dict[str, Any]) -> str:
    text = f"{row['ratio']:.0f}" if row["ratio"] >= 100 else f"{row['ratio']:.3g}"
    missed = row["target"] is not None and row["ratio"] < row["target"]
    return f"**{text}**" if missed else text


def table(content: dict[str, Any], on_gpu: dict[str, Any] | None, checked: list) -> str:
    gpu_rows = {row["name"]: row for one in checked for row in one["rows"]}
    gpu_rows.update({row["name"]: row for row in on_gpu["rows"]} if on_gpu else {})
    lines = [
        [
            row["name"],
            f"{row['baseline_name']} {number(row['baseline'])} {row['unit']}",
            f"{number(row['ours'])} {row['unit']}",
            ratio(row),
            "" if row["target"] is None else f"{row['target']:.3g}",
            ratio(gpu_rows[row["name"]]) if row["name"] in gpu_rows else "not measured",
            row["note"],
        ]
        for row in content["rows"]
    ]
    header = ["what", "baseline", "lt_det", "ratio", "target", "ratio on a GPU", "note"]
    if not any(line[-1] for line in lines):
        lines, header = [line[:-1] for line in lines], header[:-1]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True)


def where(content: dict[str, Any]) -> str:
    machine = content["machine"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("torch", "torchvision", "detectron2", "numpy")
    )
    return (
        f"`{content['command']}`; {machine['name']}, {machine['threads']} threads; Python "
        f"{machine['python']}, {versions}; commit {machine['commit']}; medians of "
        f"{content['repeats']}."
    )


def write_page(contents: dict[str, Any], gpu: dict[str, Any], checked: list) -> None:
    parts = [HEAD, gpu_section(checked)]
    for topic, content in contents.items():
        parts.append(f"## {content['title']}\n\n{content['about']}\n\n{where(content)}")
        if topic in gpu:
            parts.append(f"On the GPU: {where(gpu[topic])}")
        parts.append(table(content, gpu.get(topic), checked))
        if content["extra"]:
            parts.append(content["extra"])
        if content.get("panels"):
            parts.append(f"![{content['title']}](../images/{line_picture(topic).name})")
    partial = PAGE.with_suffix(".partial")
    partial.write_text("\n\n".join(part.strip() for part in parts) + "\n")
    os.replace(partial, PAGE)


def headlines(contents: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the picture; those that were not measured are named."""
    rows = {row["name"]: row for content in contents.values() for row in content["rows"]}
    for name in (name for name in HEADLINES if name not in rows):
        print(f"not in the picture, as no result has this name: {name}")
    return [{**rows[name], "shown": words} for name, words in HEADLINES.items() if name in rows]


def write_picture(contents: dict[str, Any]) -> None:
    """Draw a bar for each headline row, its length the ratio; a tick marks the target."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = headlines(contents)
    figure = Figure(figsize=(9, 1 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    missed = [row["target"] is not None and row["ratio"] < row["target"] for row in rows]
    ratios = [row["ratio"] for row in rows]
    # From 1, so that what is worse points to the left.
    colours = [MISSED if miss else FINE for miss in missed]
    axes.barh(range(len(rows)), [r - 1 for r in ratios], left=1, color=colours, height=0.6)
    for i, value in enumerate(ratios):
        text = f"{value:.0f}×" if value >= 10 else f"{value:.2g}×" if value < 1 else f"{value:.3g}×"
        axes.text(max(value, 1) * 1.06, i, text, va="center", fontsize=9)
    for i, row in enumerate(rows):
        if row["target"] is not None:
            axes.plot([row["target"]] * 2, [i - 0.42, i + 0.42], color="black", linewidth=1.5)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="times faster or smaller than the baseline")
    axes.set_xlim(min(*ratios, 1) / 1.3, max(ratios) * 2.2)
    axes.set_xticks([1, 10, 100], ["1×", "10×", "100×"])
    axes.set_yticks(range(len(rows)), [f"{r['shown']}\nagainst {r['baseline_name']}" for r in rows])
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    keys = [Patch(color=FINE, label="at least the target, or none was set")]
    keys += [Patch(color=MISSED, label="misses its target (tick)")] if any(missed) else []
    figure.legend(handles=keys, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    partial = PICTURE.with_name(f"{PICTURE.stem}.partial.png")
    figure.savefig(partial, dpi=110)
    os.replace(partial, PICTURE)


def line_picture(topic: str) -> Path:
    return PICTURE.with_name(f"benchmarks_{topic}.png")


def write_line_picture(topic: str, panels: list[dict[str, Any]]) -> None:
    """Draw the line plots of one topic side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(all_axes, panels):
        for label, points in panel["lines"].items():
            axes.plot(*zip(*sorted(points)), marker="o", label=label)
        ticks = sorted({x for points in panel["lines"].values() for x, _ in points})
        axes.set(xlabel=panel["x"], ylabel=panel["y"])
        axes.set_title(panel["title"], fontsize=10)
        if panel["log_x"]:
            axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    path = line_picture(topic)
    partial = path.with_name(f"{path.stem}.partial.png")
    figure.savefig(partial, dpi=110)
    os.replace(partial, path)


def main() -> None:
    contents = load("cpu")
    if not contents:
        raise SystemExit(f"no results in {Path(RESULTS).name}: run the benchmarks first")
    write_page(contents, load("cuda"), load_gpu_check())
    write_picture(contents)
    for topic, content in contents.items():
        if content.get("panels"):
            write_line_picture(topic, content["panels"])


if __name__ == "__main__":
    main()
