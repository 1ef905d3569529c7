"""CIFAR in its two forms, and the digits."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from lt_det.data.images.small_images import read_cifar, read_digits, read_jpeg_npz


def write_cifar10(root):
    """Write CIFAR-10's files with 4 images each: image i is red i, green 2i, blue 3i."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for index, name in enumerate(names):
        values = 4 * index + np.arange(4)
        data = np.concatenate(
            [np.repeat(factor * values[:, None], 1024, axis=1) for factor in (1, 2, 3)], axis=1
        ).astype(np.uint8)
        data[:, 32] = 255  # red of the second row's first pixel
        batch = {"data": data, "labels": [(4 * index + i) % 10 for i in range(4)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": [f"name{i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta))
    return root


def test_cifar_files_become_images_with_labels(tmp_path):
    table = read_cifar(str(write_cifar10(tmp_path)), "train", name="c", kind="cifar10")
    assert len(table.labels) == 20
    record = table.records([13])[0]
    assert (record["image_id"], record["category_id"]) == (13, 3)
    assert record["image"].shape == (32, 32, 3)
    assert record["image"][5, 7].tolist() == [13, 26, 39]  # red, green, blue
    assert np.argwhere(record["image"] == 255).tolist() == [[1, 0, 0]]
    test = read_cifar(str(tmp_path / "cifar-10-batches-py"), "test", name="c", kind="cifar10")
    assert test.records()[0]["image"][0, 0, 0] == 20
    assert test.class_names[:2] == ("name0", "name1")


def test_cifar100_takes_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    data = np.zeros((2, 3072), np.uint8)
    batch = {"data": data, "fine_labels": [1, 2], "coarse_labels": [0, 0]}
    meta = {"fine_label_names": ["a", "b", "c"], "coarse_label_names": ["d"]}
    (folder / "train").write_bytes(pickle.dumps(batch))
    (folder / "meta").write_bytes(pickle.dumps(meta))
    table = read_cifar(str(tmp_path), "train", name="c", kind="cifar100")
    assert table.labels.tolist() == [1, 2]
    assert table.class_names == ("a", "b", "c")


def test_missing_cifar_says_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_cifar(str(tmp_path), "train", name="c", kind="cifar10")
    assert str(tmp_path / "cifar-10-batches-py" / "data_batch_1") in str(error.value)
    assert "torchvision.datasets.CIFAR10" in str(error.value)


def test_cifar_files_cannot_run_code(tmp_path):
    write_cifar10(tmp_path)

    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="data_batch_2 is no pickle of arrays"):
        read_cifar(str(tmp_path), "train", name="c", kind="cifar10")


@pytest.mark.parametrize("reader", [read_digits, read_jpeg_npz])
def test_splits_are_train_and_test(reader):
    with pytest.raises(ValueError, match=r"'c': split must be one of .*got 'val'"):
        reader("", "val", name="c")


def test_jpegs_are_decoded_one_by_one(tmp_path):
    encoded = []
    for value in (10, 100, 200):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "JPEG", quality=95)
        encoded.append(buffer.getvalue())
    path = tmp_path / "x.npz"
    arrays = {
        "data": np.frombuffer(b"".join(encoded), np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "labels": np.array([0, 1, 1]),
        "is_test": np.array([False, True, False]),
        "classes": np.array(["a", "b"]),
    }
    np.savez(path, **arrays)
    table = read_jpeg_npz(str(path), "train", name="j")
    assert table.labels.tolist() == [0, 1]
    assert abs(int(table.records([1])[0]["image"][4, 4, 0]) - 200) < 8
    assert read_jpeg_npz(str(path), "test", name="j").records()[0]["category_id"] == 1
    del arrays["offsets"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"lacks \['offsets'\]"):
        read_jpeg_npz(str(path), "test", name="j")
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        read_jpeg_npz(str(tmp_path / "nowhere.npz"), "test", name="j")


def test_real_cifar_has_50000_and_10000_images(shared_data):
    path = str(shared_data / "cifar10_jpeg.npz")
    for split, size in (("train", 5000), ("test", 1000)):
        table = read_jpeg_npz(path, split, name="c")
        assert np.bincount(table.labels).tolist() == [size] * 10
        assert table.records([7])[0]["image"].shape == (32, 32, 3)


def test_digits_splits_share_no_image():
    pytest.importorskip("sklearn")
    train, test = (read_digits("", split, name="d") for split in ("train", "test"))
    assert len(train.labels) + len(test.labels) == 1797
    assert np.bincount(test.labels).min() >= 58
    pixels = {split.records([i])[0]["image"].tobytes() for split in (train,) for i in range(1201)}
    assert not pixels & {r["image"].tobytes() for r in test.records()}
    assert max(r["image"].max() for r in test.records()) == 255


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, r"test_batch lacks \['labels'\]"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 test images and 1 labels"),
    ],
)
def test_cifar_files_without_all_labels(tmp_path, batch, words):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    with pytest.raises(ValueError, match=words):
        read_cifar(str(tmp_path), "test", name="c", kind="cifar10")


def test_broken_npz(tmp_path):
    path = tmp_path / "images.npz"
    path.write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="'n': .*images.npz is no npz file"):
        read_jpeg_npz(str(path), "test", name="n")
    arrays = {"data": np.zeros(4, np.uint8), "classes": np.array(["a"])}
    np.savez(path, offsets=[0, 4], labels=[0, 0], is_test=[1, 1], **arrays)
    with pytest.raises(ValueError, match=r"N \+ 1 offsets, got \[2, 2, 2\]"):
        read_jpeg_npz(str(path), "test", name="n")
