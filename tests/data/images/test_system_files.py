"""What systems leave among images is no class, no image and no file to be named."""

from __future__ import annotations

import pytest

from lt_det.data.images.lists import files_of_classes
from lt_det.data.images.system_files import is_system_file
from lt_det.data.inspection.file_names import image_paths
from lt_det.data.inspection.labelled_images import inspect_images
from lt_det.engine.prediction.image_files import find_images
from tests.data.inspection.test_labelled_images import picture

LEFT = [
    "__MACOSX/cat/._0.png",
    "cat/__MACOSX/._0.png",
    "cat/._1.png",
    "cat/.ipynb_checkpoints/0-checkpoint.png",
    "@eaDir/x.png",
    "dog/@eaDir/0.png/thumb.png",
    ".DS_Store",
    "cat/.DS_Store",
    "cat/Thumbs.db",
    "desktop.ini",
]


@pytest.fixture
def folder(tmp_path):
    for row, (name, file) in enumerate([("cat", 0), ("cat", 1), ("dog", 0), ("dog", 1)]):
        picture(tmp_path / name / f"{file}.png", 10 + 20 * row)
    clean = {one.kind for one in inspect_images([str(tmp_path)]).findings}
    for name in LEFT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path, clean


def test_they_are_no_class_and_no_image(folder):
    root, clean = folder
    expected = {name: [f"{name}/0.png", f"{name}/1.png"] for name in ("cat", "dog")}
    assert files_of_classes(str(root)) == expected
    assert {one.kind for one in inspect_images([str(root)]).findings} == clean
    assert is_system_file("__MACOSX")
    assert not is_system_file("cat.png")


def test_prediction_names_the_endings_that_it_leaves_out(folder):
    root, _ = folder
    notes: list[str] = []
    assert len(find_images([root], notes=notes)) == 4
    assert notes == []
    for name in ("a.gif", "b.GIF", "c.txt", "d"):
        (root / name).write_bytes(b"x")
    assert len(find_images([root, root / "a.gif"], notes=notes)) == 5
    (note,) = notes
    assert note.startswith("4 files were left out")
    assert ".gif (2), .txt (1), none (1)" in note
    (root / "only").mkdir()
    (root / "only/a.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"others are there: \.heic \(1\)"):
        find_images([root / "only"])


def test_file_names_are_not_matched_with_them(folder):
    root, _ = folder
    (root / "__MACOSX/7.png").write_bytes(b"x")
    images = [{"id": 1, "file_name": "cat/0.png"}, {"id": 2, "file_name": "x/7.png"}]
    assert image_paths(images, str(root))[1] == {}
