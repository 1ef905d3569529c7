#!/usr/bin/env python
"""Put what a bare CUDA machine lacks for `make gpu-check` into build/gpu.

    python tools/gpu_bundle.py

The machine has torch, torchvision, Pillow and NumPy. ``build/gpu/site`` gets Detectron2's Python
code and what it and this package import, from the locked files with their hashes;
``build/gpu/cifar10_lt.npz`` the images of CIFAR-10-LT, where CIFAR-10 is at hand. Copy the
repository with build/gpu there: together they are under 64 MiB.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lt_det.data.images.long_tail_subset import exponential_counts

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = REPOSITORY / "build" / "gpu"
#: The repository itself takes the rest of 64 MiB.
LIMIT = 58 * 2**20
#: From requirements-newer.lock: package -> what needs it. Where the machine has one, its own is
#: taken, as these come last in the search path.
PACKAGES = {
    "fvcore": "detectron2",
    "iopath": "detectron2",
    "omegaconf": "detectron2",
    "hydra-core": "detectron2",
    "antlr4-python3-runtime": "omegaconf",
    "yacs": "fvcore",
    "termcolor": "fvcore",
    "portalocker": "iopath",
    "cloudpickle": "detectron2",
    "packaging": "hydra-core, matplotlib",
    "pyyaml": "configs",
    "tabulate": "tables",
    "tqdm": "progress",
    "pycocotools": "masks",
    "hotcoco": "LVIS evaluation",
    "safetensors": "region features",
    "tensorboard": "Detectron2's trainer writes with it",
    "protobuf": "tensorboard",
    "absl-py": "tensorboard",
    "matplotlib": "detectron2, plots",
    "contourpy": "matplotlib",
    "cycler": "matplotlib",
    "fonttools": "matplotlib",
    "kiwisolver": "matplotlib",
    "pyparsing": "matplotlib",
    "python-dateutil": "matplotlib",
    "six": "python-dateutil",
}
#: Not looked at by the check, and large.
LEFT_OUT = (
    "detectron2/_C*",
    "**/tests",
    "**/testing",
    "**/__pycache__",
    "tensorboard/webfiles.zip",
    "tensorboard/plugins/projector/tf_projector_plugin",
    "matplotlib/mpl-data/sample_data",
    "matplotlib/mpl-data/fonts/afm",
    "matplotlib/mpl-data/fonts/pdfcorefonts",
    "matplotlib/mpl-data/fonts/ttf/STIX*",
    "matplotlib/mpl-data/fonts/ttf/DejaVuSerif*",
    "matplotlib/mpl-data/fonts/ttf/DejaVuSansMono*",
    "matplotlib/backends/web_backend",
    "fontTools/**/*.so",  # it has the same in Python
    "fontTools/**/*.c",
    "fontTools/feaLib",
    "fontTools/varLib",
    "fontTools/otlLib",
    "share",
    "**/*.pyi",
    "hotcoco/static",
    "hotcoco/_fonts",
    "yaml/_yaml*",  # it has the same in Python
)


def locked(text: str, packages: list[str]) -> str:
    """Return the lines of a lock file that are of the packages, with their hashes.

    Raises:
        SystemExit: names the packages that it lacks.
    """
    blocks = list(re.finditer(r"^([a-z0-9._-]+)==(?:.*\\\n)+.*$", text, re.MULTILINE))
    missing = sorted(set(packages) - {block[1] for block in blocks})
    if missing:
        raise SystemExit(f"requirements-newer.lock lacks {missing}: make lock")
    # Several blocks of a package are for several versions of Python.
    return "\n".join(block[0] for block in blocks if block[1] in packages) + "\n"


def install(uv: str, requirements: Path, site: Path, version: str) -> None:
    """Install locked packages for a version of Python on Linux into a folder."""
    # Copies: a file linked to the cache of uv would be stripped in all environments that share it.
    command = [uv, "pip", "install", "--quiet", "--link-mode", "copy", "--python-version", version]
    command += ["--python-platform", "linux", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--target", str(site), "-r", str(requirements)], check=True)


def write_cifar(source: Path, target: Path, factor: float = 100.0) -> None:
    """Write the test images of an npz of JPEGs, and the long tail of its training images.

    Every class keeps its first images, as many as the profile of the imbalance factor gives it.
    """
    with np.load(source, allow_pickle=False) as arrays:
        content = {key: arrays[key] for key in arrays.files}
    labels, is_test = content["labels"], content["is_test"].astype(bool)
    offsets, data = content["offsets"], content["data"]
    counts = exponential_counts(
        int(np.bincount(labels[~is_test]).max()),
        num_classes=len(content["classes"]),
        imbalance_factor=factor,
    )
    kept = [np.flatnonzero(is_test)]
    for class_id, count in enumerate(counts):
        kept.append(np.flatnonzero(~is_test & (labels == class_id))[:count])
    rows = np.sort(np.concatenate(kept))
    files = [data[offsets[i] : offsets[i + 1]] for i in rows]
    np.savez(
        target,
        data=np.concatenate(files),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=labels[rows],
        is_test=is_test[rows],
        classes=content["classes"],
    )


def main() -> None:
    """Fill build/gpu; say what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default="3.12", help="version there")
    parser.add_argument(
        "--cifar", type=Path, default=REPOSITORY.parent / "shared" / "data" / "cifar10_jpeg.npz"
    )
    parser.add_argument("--output", type=Path, default=TARGET)
    args = parser.parse_args()
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise SystemExit("gpu_bundle needs uv: pip install uv")
    shutil.rmtree(args.output, ignore_errors=True)
    site = args.output / "site"
    with tempfile.TemporaryDirectory() as name:
        requirements = Path(name) / "requirements.txt"
        lock = (REPOSITORY / "requirements-newer.lock").read_text()
        requirements.write_text(locked(lock, list(PACKAGES)))
        install(uv, requirements, site, args.python)
    # The wheel is of Python 3.10; its Python code is for all.
    install(uv, REPOSITORY / "requirements-detectron2.txt", site, "3.10")
    for pattern in LEFT_OUT:
        for path in list(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    strip = shutil.which("strip")
    for path in site.rglob("*.so") if strip else ():
        subprocess.run([str(strip), "--strip-debug", str(path)], check=False, capture_output=True)
    if args.cifar.is_file():
        write_cifar(args.cifar, args.output / "cifar10_lt.npz")
    git = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout
    (args.output / "commit").write_text(commit or "unknown\n")
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{args.output}: {size / 2**20:.1f} MiB, for Python {args.python} on Linux")
    if not args.cifar.is_file():
        print(f"no CIFAR-10 at {args.cifar}: the check will draw images instead")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 2**20:.0f} MiB: leave out --cifar, or a package")


if __name__ == "__main__":
    main()
