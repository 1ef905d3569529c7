"""The long-tail picture, and the tool that writes it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib import colors, image
from matplotlib.figure import Figure

from lt_det.cli.class_stats import main
from lt_det.data.stats.class_stats import ClassStats
from lt_det.report.class_stats_plot import GROUP_COLOURS, plot_long_tail


def stats_of(counts) -> ClassStats:
    return ClassStats(
        name="zoo",
        class_names=tuple(f"class {i}" for i in range(len(counts))),
        image_counts=tuple(counts),
        instance_counts=tuple(4 * count for count in counts),
        num_images=max(counts),
        source="annotations",
    )


def pixels_of(path, group) -> np.ndarray:
    """Columns of the picture with the colour of a group, left of the legend's first row."""
    picture = image.imread(path)[..., :3]
    hit = np.abs(picture - colors.to_rgb(GROUP_COLOURS[group])).max(axis=-1) < 0.02
    # The lower half has bars only; the legend is in the upper one.
    return np.flatnonzero(hit[hit.shape[0] // 2 :].any(axis=0))


def test_bars_go_from_frequent_to_rare_in_the_groups_colours(tmp_path):
    path = tmp_path / "new" / "tail.png"
    plot_long_tail(stats_of([3, 500, 40, 9, 0, 200, 60]), path)
    frequent, common, rare = (pixels_of(path, group) for group in "fcr")
    assert frequent.max() < common.min()
    assert common.max() < rare.min()
    # Two classes of each have a bar (the fifth rare one has no image), so equal widths.
    widths = [np.ptp(columns) for columns in (frequent, common, rare)]
    assert max(widths) - min(widths) <= 4
    assert list(path.parent.iterdir()) == [path]


def test_instances_change_the_heights_and_not_the_colours(tmp_path):
    stats = stats_of([9] * 3)
    plot_long_tail(stats, tmp_path / "a.png")
    plot_long_tail(stats, tmp_path / "b.png", unit="instance")
    assert pixels_of(tmp_path / "b.png", "r").size
    assert not pixels_of(tmp_path / "b.png", "c").size
    with pytest.raises(ValueError, match="'pixel'"):
        plot_long_tail(stats, tmp_path / "c.png", unit="pixel")


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The command, in this process."""
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "cache"))
    return main


def test_the_tool_prints_the_table_and_writes_json_and_picture(shared_data, tmp_path, tool, capsys):
    source = shared_data / "lvis/coco_mini_lvis_train.json"
    images = shared_data / "coco/train2017"
    options = ["--json", source, "--image-root", images, "--output", tmp_path, "--top", 2]
    tool(["mini", *map(str, options)])
    out = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    counts = [c["image_count"] for c in json.loads(source.read_text())["categories"]]
    rare = sum(count <= 10 for count in counts)
    empty = sum(count == 0 for count in counts)
    assert ["rare (r)", str(rare)] in [line[:2] for line in lines]
    assert [line[-1] for line in lines if line[:1] == ["all"]] == [str(empty)]
    assert ["0", "person", "c", "77", "301"] in lines
    assert "76 more (--all)" in out
    assert "0 of 150 images are missing" in out
    saved = ClassStats.from_dict(json.loads((tmp_path / "class_stats.json").read_text()))
    assert list(saved.image_counts) == counts
    assert image.imread(tmp_path / "long_tail.png").ndim == 3


def test_the_tool_takes_registered_names_and_limits(tmp_path, tool, capsys):
    data = pytest.importorskip("detectron2.data")
    records = [{"annotations": [{"category_id": 0}]}, {"annotations": [{"category_id": 0}] * 3}]
    data.DatasetCatalog.register("plain", lambda: records)
    data.MetadataCatalog.get("plain").thing_classes = ["cat", "dog"]
    try:
        tool(["plain", "--output", str(tmp_path), "--rare-max", "1", "--all"])
    finally:
        data.DatasetCatalog.remove("plain")
        data.MetadataCatalog.remove("plain")
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["0", "cat", "c", "2", "4"] in cells
    assert ["1", "dog", "r", "0", "0"] in cells
    with pytest.raises(KeyError, match="lvis_v1_trian.*lvis_v1_train"):
        tool(["lvis_v1_trian"])


@pytest.mark.parametrize("options", [["a", "b", "--json", "x"], ["a", "--image-root", "x"]])
def test_options_that_do_not_go_together_are_refused(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool(options)
    assert "--json" in capsys.readouterr().err


def test_names_are_drawn_as_they_are(tmp_path):
    """Not as formulas (matplotlib would stop at this one), and without control characters."""
    name = r"$\frac$"
    figure = Figure()
    figure.text(0, 0, name)
    with pytest.raises(ValueError, match="frac"):
        figure.savefig(tmp_path / "formula.png")
    stats = replace(stats_of([3, 5, 2]), name=name, class_names=(name, "b\x1b[2J\x00", "$5"))
    plot_long_tail(stats, tmp_path / "tail.png")
    assert image.imread(tmp_path / "tail.png").size
