"""Seven more drawing styles, from npm packages. Only needed for ``styles="full"``.

The packages are fetched with the ``npm`` client (which runs no scripts of theirs), checked against
the sums below and read in place: nothing is unpacked. Licences: docs/demo_data.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_det.demo.emoji_classes import EmojiClass
from lt_det.demo.sprites import PipStyle, SpriteSource, code_point_names

logger = logging.getLogger(__name__)

_NPM_TIMEOUT_S = 300


@dataclass(frozen=True)
class NpmPackage:
    """A pinned npm package.

    Attributes:
        name: name on the registry.
        version: exact version.
        integrity: ``sha512-`` and the base64 sum of the tarball, as npm writes it.
    """

    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        """File name that ``npm pack`` gives the package."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


NPM_PACKAGES = {
    "noto": NpmPackage(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAu"
        "aw==",
    ),
    "noto_v1": NpmPackage(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMu"
        "VA==",
    ),
    "emojione": NpmPackage(
        "@iconify-json/emojione",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CM"
        "Mg==",
    ),
    "emojione_v1": NpmPackage(
        "@iconify-json/emojione-v1",
        "1.2.3",
        "sha512-UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+"
        "ww==",
    ),
    "fxemoji": NpmPackage(
        "@iconify-json/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78Dp"
        "iQ==",
    ),
    "fluent_flat": NpmPackage(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXl"
        "Uw==",
    ),
    "fluent_3d": NpmPackage(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h"
        "7g==",
    ),
}
# Six styles to train on, and two families that training never sees. Flat and 3D Fluent are one
# family (the same drawings), so both are held out.
FULL_TRAIN_STYLES = ("openmoji", "twemoji", "noto", "noto_v1", "emojione", "emojione_v1")
HELD_OUT_STYLES = ("fxemoji", "fluent_flat", "fluent_3d")


def fetch_npm_package(package: NpmPackage, folder: Path) -> Path:
    """Return the tarball of a package, downloaded with npm unless it is there already.

    Args:
        package: what to fetch.
        folder: where tarballs are kept.

    Raises:
        RuntimeError: if npm is missing or fails, or the file is not the expected one.
    """
    target = folder / package.tarball
    if target.is_file():
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            "styles='full' downloads sprite packages with npm, which is not on the PATH; "
            "install Node.js or build with styles='pip'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    specification = f"{package.name}@{package.version}"
    logger.info("npm pack %s", specification)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [npm, "pack", specification, "--ignore-scripts", "--pack-destination", temporary]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=False
        )
        packed = Path(temporary) / package.tarball
        if done.returncode != 0 or not packed.is_file():
            raise RuntimeError(f"npm pack {specification} failed: {done.stderr.strip()[-500:]}")
        found = "sha512-" + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if found != package.integrity:
            raise RuntimeError(
                f"{specification} has the sum {found}, expected {package.integrity}; "
                "the registry serves another file than the tested one"
            )
        os.replace(packed, target)
    return target


class IconifyStyle:
    """A drawing style in an ``@iconify-json`` package: one json with all SVG bodies."""

    def __init__(self, tarball: Path, names: Mapping[str, str]) -> None:
        """Read the package.

        Args:
            tarball: the npm package.
            names: code points (``"1f41d"``) -> icon name, for a package without such a table.
        """
        self._data = _read_json(tarball, "package/icons.json")
        self._names = read_icon_names(tarball) or dict(names)
        # One set writes "bactriancamel" where the others write "bactrian-camel".
        self._by_letters = {_letters(name): name for name in self._data["icons"]}

    def find(self, emoji: EmojiClass) -> bytes | None:
        """Return the SVG text of ``emoji``, None if the style does not draw it.

        Args:
            emoji: what to draw.
        """
        for points in code_point_names(emoji):
            name = self._names.get(points.lower())
            if name is None:
                continue
            name = self._data.get("aliases", {}).get(name, {}).get("parent", name)
            icon = self._data["icons"].get(name)
            if icon is None and _letters(name) in self._by_letters:
                icon = self._data["icons"][self._by_letters[_letters(name)]]
            if icon is not None:
                return self._svg(icon)
        return None

    def _svg(self, icon: Mapping[str, Any]) -> bytes:
        box = [
            icon.get(key, self._data.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        ]
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
        ).encode()


class WebpStyle:
    """A drawing style in an npm package with one WebP file per emoji."""

    def __init__(self, tarball: Path) -> None:
        with tarfile.open(tarball) as archive:
            self._pictures = {
                Path(member.name).stem: archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive.getmembers()
                if member.isfile() and member.name.endswith(".webp")
            }

    def find(self, emoji: EmojiClass) -> bytes | None:
        """Return the WebP file of ``emoji``, None if the style does not draw it.

        Args:
            emoji: what to draw.
        """
        for points in code_point_names(emoji):
            if points.lower() in self._pictures:
                return self._pictures[points.lower()]
        return None


def full_sources(folder: Path) -> dict[str, SpriteSource]:
    """Return all nine styles, fetching what is missing.

    Args:
        folder: where npm tarballs are kept.

    Raises:
        RuntimeError: see :func:`fetch_npm_package`.
    """
    tarballs = {style: fetch_npm_package(p, folder) for style, p in NPM_PACKAGES.items()}
    names = read_icon_names(tarballs["noto"])
    sources: dict[str, SpriteSource] = {}
    for style in (*FULL_TRAIN_STYLES, *HELD_OUT_STYLES):
        if style not in tarballs:
            sources[style] = PipStyle(style)
        elif style == "fluent_3d":
            sources[style] = WebpStyle(tarballs[style])
        else:
            sources[style] = IconifyStyle(tarballs[style], names)
    return sources


def read_icon_names(tarball: Path) -> dict[str, str]:
    """Return code points (``"1f41d"``) -> icon name of an ``@iconify-json`` package.

    Args:
        tarball: the npm package. Some have an empty table.
    """
    # An empty table is written as a list.
    return dict(_read_json(tarball, "package/chars.json") or {})


def _read_json(tarball: Path, member: str) -> Any:
    with tarfile.open(tarball) as archive:
        return json.load(archive.extractfile(member))  # type: ignore[arg-type]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)
