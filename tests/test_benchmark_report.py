"""The page of benchmarks is made of the files that benchmarks wrote, and of no others."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield runpy.run_path(str(BENCHMARKS / "report.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_records_of_other_tools_are_left_out(report):
    found = report["load"]("cpu")
    assert {"overhead", "heads"} <= set(found)
    assert not {"methods", "loss_cells"} & set(found)
    for content in found.values():
        assert report["where"](content)


def test_the_page_has_each_record_once(report):
    page = report["PAGE"].read_text(encoding="utf-8")
    gpu, checked = report["load"]("cuda"), report["load_gpu_check"]()
    for topic, content in report["load"]("cpu").items():
        assert page.count(f"## {content['title']}\n") == 1
        assert report["table"](content, gpu.get(topic), checked) in page, (
            "run python benchmarks/report.py"
        )


def test_every_row_of_the_picture_was_measured(report):
    found = report["headlines"](report["load"]("cpu"))
    assert [row["shown"] for row in found] == list(report["HEADLINES"].values())
