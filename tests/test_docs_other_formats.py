"""The converters of docs/how-to/other_formats.md, run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_det.cli.commands import main

PAGE = Path(__file__).resolve().parents[1] / "docs/how-to/other_formats.md"

VOC = """<annotation><filename>{name}</filename><size><width>80</width><height>60</height>
<depth>3</depth></size><object><name>{kind}</name><bndbox><xmin>8</xmin><ymin>6</ymin>
<xmax>40</xmax><ymax>36</ymax></bndbox></object></annotation>"""


def code_after(title: str) -> str:
    text = PAGE.read_text()
    return re.search(r"```python\n(.*?)```", text[text.index(f"## {title}") :], re.S)[1]


def write_photos(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(folder / name)


@pytest.fixture
def yolo(tmp_path, monkeypatch):
    write_photos(tmp_path / "my_yolo/train/images")
    (tmp_path / "my_yolo/train/labels").mkdir()
    (tmp_path / "my_yolo/train/labels/a.txt").write_text("0 0.3 0.35 0.4 0.5\n")
    (tmp_path / "my_yolo/train/labels/b.txt").write_text("1 0.3 0.35 0.4 0.5\n")
    (tmp_path / "my_yolo/data.yaml").write_text("nc: 2\nnames: [cat, dog]\n")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def voc(tmp_path, monkeypatch):
    write_photos(tmp_path / "my_voc/images")
    (tmp_path / "my_voc/xml").mkdir()
    for name, kind in (("a", "cat"), ("b", "dog")):
        (tmp_path / f"my_voc/xml/{name}.xml").write_text(VOC.format(name=f"{name}.jpg", kind=kind))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("title", "images"), [("YOLO", "my_yolo/train/images"), ("Pascal VOC", "my_voc/images")]
)
def test_converted_labels_pass_the_check(request, title, images, capsys):
    pytest.importorskip("supervision", reason="the converter of the page")
    request.getfixturevalue({"YOLO": "yolo", "Pascal VOC": "voc"}[title])
    exec(code_after(title), {})  # noqa: S102
    assert main(["check-data", "--train", "train.json", "--images", images]) == 0
    out = capsys.readouterr().out
    assert "cat" in out
    assert "dog" in out
