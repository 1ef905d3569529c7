"""Small images kept in memory: CIFAR and scikit-learn's digits."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lt_det.data.array_unpickler import BROKEN_FILE, ArrayUnpickler
from lt_det.data.images.table import ImageTable
from lt_det.storage.regular_file import check_regular, open_regular

SPLITS = ("train", "test")

# torchvision's layout: folder, training files, test file, file and key of the names, label key.
_CIFAR_LAYOUT: dict[str, dict[str, Any]] = {
    "cifar10": {
        "folder": "cifar-10-batches-py",
        "train": [f"data_batch_{i}" for i in range(1, 6)],
        "test": ["test_batch"],
        "names": ("batches.meta", "label_names"),
        "labels": "labels",
    },
    "cifar100": {
        "folder": "cifar-100-python",
        "train": ["train"],
        "test": ["test"],
        "names": ("meta", "fine_label_names"),
        "labels": "fine_labels",
    },
}
CIFAR_FOLDERS = tuple(layout["folder"] for layout in _CIFAR_LAYOUT.values())
_CIFAR_SIDE = 32
# One in so many digits of a class is a test image.
_DIGITS_TEST_SHARE = 3


def read_cifar(
    root: str, split: str, *, name: str, kind: Literal["cifar10", "cifar100"]
) -> ImageTable:
    """Return CIFAR-10 or CIFAR-100 from the files of its "python version", as torchvision has them.

    Args:
        root: folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, or that one itself.
        split: "train" or "test".
        name: data set, for messages.
        kind: which of the two.

    Raises:
        FileNotFoundError: says which file must be where.
        ValueError: for another split, or a file that is no such pickle.
    """
    check_split(split, name=name)
    layout = _CIFAR_LAYOUT[kind]
    folder = os.path.join(os.path.expanduser(root), layout["folder"])
    if not os.path.isdir(folder) and os.path.basename(root.rstrip("/")) == layout["folder"]:
        folder = os.path.expanduser(root)
    hint = (
        f"put the python version of {kind} there (the folder {layout['folder']} of its archive, "
        f"or torchvision.datasets.{kind.upper()}(root, download=True)), and give the folder that "
        "holds it as the path of the data set"
    )
    batches = [
        _read_pickle(os.path.join(folder, file), name=name, hint=hint) for file in layout[split]
    ]
    meta_file, key = layout["names"]
    meta = _read_pickle(os.path.join(folder, meta_file), name=name, hint=hint)
    for files, content, keys in (
        (layout[split], batches, ("data", layout["labels"])),
        ([meta_file], [meta], (key,)),
    ):
        for file, found in zip(files, content):
            missing = [k for k in keys if k not in found]
            if missing:
                raise ValueError(
                    f"data set {name!r}: {os.path.join(folder, file)} lacks {missing}; it is no "
                    f"file of {kind}, {hint}"
                )
    names = meta[key]
    pixels = np.concatenate([np.asarray(batch["data"]) for batch in batches])
    images = pixels.reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(0, 2, 3, 1)
    labels = np.concatenate([np.asarray(batch[layout["labels"]]) for batch in batches])
    if len(labels) != len(images):
        raise ValueError(
            f"data set {name!r}: {folder} has {len(images)} {split} images and {len(labels)} "
            "labels; download it again"
        )
    return _in_memory(np.ascontiguousarray(images), labels, names, name=name)


def read_jpeg_npz(path: str, split: str, *, name: str) -> ImageTable:
    """Return images from an npz of JPEGs; one is decoded when its record is asked for.

    Its arrays: ``data`` uint8, all files one after the other, ``offsets`` (N + 1,), ``labels``
    (N,), ``is_test`` (N,) bool and ``classes``, the names.

    Args:
        path: the file.
        split: "train" or "test".
        name: data set, for messages.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: for another split, or an array that is missing.
    """
    from PIL import Image

    check_split(split, name=name)
    path = os.path.expanduser(path)
    check_file(path, name=name, hint="it is an npz with data, offsets, labels, is_test, classes")
    try:
        content = np.load(path, allow_pickle=False)
    except (zipfile.BadZipFile, *BROKEN_FILE, OSError) as error:
        raise ValueError(f"data set {name!r}: {path} is no npz file: {error}") from error
    with content as arrays:
        missing = {"data", "offsets", "labels", "is_test", "classes"} - set(arrays.files)
        if missing:
            raise ValueError(
                f"data set {name!r}: {path} lacks {sorted(missing)}, it has {arrays.files}"
            )
        data, offsets = arrays["data"], arrays["offsets"]
        chosen = np.flatnonzero(arrays["is_test"].astype(bool) == (split == "test"))
        labels = arrays["labels"].astype(np.int64)[chosen]
        names = tuple(str(n) for n in arrays["classes"])
        sizes = [len(arrays[key]) for key in ("labels", "is_test", "offsets")]
    if not sizes[0] == sizes[1] == sizes[2] - 1:
        raise ValueError(
            f"data set {name!r}: {path} must have N labels, N is_test and N + 1 offsets, got "
            f"{sizes}"
        )

    def image_of(index: int) -> dict[str, Any]:
        place = chosen[index]
        encoded = data[offsets[place] : offsets[place + 1]].tobytes()
        with Image.open(io.BytesIO(encoded)) as image:
            return {"image": np.array(image.convert("RGB"))}

    return ImageTable(name, labels, names, image_of)


def read_digits(_path: str, split: str, *, name: str) -> ImageTable:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, grey as RGB.

    Args:
        _path: not looked at, the images come with scikit-learn.
        split: "train" or "test"; every third image of a class is a test image.
        name: data set, for messages.

    Raises:
        ImportError: if scikit-learn is not installed.
        ValueError: for another split.
    """
    check_split(split, name=name)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            f"data set {name!r} comes with scikit-learn: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    place_in_class = np.zeros(len(labels), dtype=np.int64)
    for class_id in range(len(bunch.target_names)):
        members = np.flatnonzero(labels == class_id)
        place_in_class[members] = np.arange(len(members))
    is_test = place_in_class % _DIGITS_TEST_SHARE == _DIGITS_TEST_SHARE - 1
    chosen = np.flatnonzero(is_test == (split == "test"))
    # Pixels are 0..16.
    grey = np.minimum(bunch.images[chosen] * 16, 255).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return _in_memory(images, labels[chosen], [str(n) for n in bunch.target_names], name=name)


def check_split(split: str, *, name: str) -> None:
    """Raise unless ``split`` is "train" or "test".

    Raises:
        ValueError: names the data set.
    """
    if split not in SPLITS:
        raise ValueError(f"data set {name!r}: split must be one of {SPLITS}, got {split!r}")


def check_file(path: str, *, name: str, hint: str) -> None:
    """Raise if there is no file at ``path``.

    Raises:
        FileNotFoundError: names data set and path; ends with ``hint``.
        ValueError: if it is a named pipe, a folder or another thing that is no file.
    """
    check_regular(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"data set {name!r}: there is no file {os.path.abspath(path)}: {hint}"
        )


def _in_memory(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], *, name: str
) -> ImageTable:
    return ImageTable(
        name, labels.astype(np.int64), tuple(names), lambda index: {"image": images[index]}
    )


def _read_pickle(path: str, *, name: str, hint: str) -> Mapping[str, Any]:
    check_file(path, name=name, hint=hint)
    try:
        with open_regular(path) as file:
            return ArrayUnpickler(file, encoding="latin1").load()
    except BROKEN_FILE as error:
        raise ValueError(
            f"data set {name!r}: {path} is no pickle of arrays ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
