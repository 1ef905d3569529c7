"""The page of an inspected data set: whole, without the network, names are text."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from lt_det.cli.commands import main
from lt_det.report.page import Section, save_page
from tests.data.inspection.test_data_sets import good


@pytest.fixture
def page(tmp_path) -> str:
    content = good()
    content["categories"][0]["name"] = "<script>alert(1)</script>\x1b"
    for image in content["images"]:
        pixels = np.full((image["height"], image["width"], 3), 120, np.uint8)
        Image.fromarray(pixels).save(tmp_path / image["file_name"])
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    words = ["--train", str(path), "--images", str(tmp_path), "--html", str(tmp_path / "p.html")]
    main(["check-data", *words])
    return (tmp_path / "p.html").read_text()


def test_names_are_text(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page


def test_all_that_is_shown_is_inside(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 4  # long tail, objects, an image of each of two classes
    assert all(source.startswith("data:image/") for source in sources)
    assert "url(" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("title", ["The long tail", "Objects", "The rarest classes", "Classes"])
def test_sections(page, title):
    assert f"<h2>{title}</h2>" in page


def test_a_page_without_sections_can_be_written(tmp_path):
    save_page("a & b", [Section("empty")], tmp_path / "x.html")
    assert "<h1>a &amp; b</h1>" in (tmp_path / "x.html").read_text()
