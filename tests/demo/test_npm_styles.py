"""The npm client is replaced by a stub: no test touches the network."""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from lt_det.demo import npm_styles
from lt_det.demo.emoji_classes import EmojiClass
from lt_det.demo.npm_styles import IconifyStyle, NpmPackage, WebpStyle, fetch_npm_package

CAMEL = EmojiClass("camel", ("1F42B",))
BALL = EmojiClass("soccer", ("26BD", "FE0F"))


def write_tarball(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def iconify(path, *, icons, chars, **other):
    files = {"icons.json": {"icons": icons, **other}, "chars.json": chars}
    return write_tarball(path, {k: json.dumps(v).encode() for k, v in files.items()})


def package_of(content):
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return NpmPackage("@set/art", "1.0.0", f"sha512-{digest}")


@pytest.fixture
def npm(monkeypatch):
    """Pretend that npm is there; its behaviour is set by the test through the returned dict."""
    stub = {"content": b"tarball", "status": 0, "calls": 0, "command": []}

    def run(command, **_):
        stub["calls"] += 1
        stub["command"] = command
        target = Path(command[command.index("--pack-destination") + 1])
        (target / "set-art-1.0.0.tgz").write_bytes(stub["content"])
        return subprocess.CompletedProcess(command, stub["status"], "", "E404 not found")

    monkeypatch.setattr(npm_styles.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(npm_styles.subprocess, "run", run)
    return stub


def test_a_package_is_packed_once_and_runs_no_scripts(npm, tmp_path):
    package = package_of(b"tarball")
    for _ in range(2):
        assert fetch_npm_package(package, tmp_path / "npm").read_bytes() == b"tarball"
    assert npm["calls"] == 1
    assert "@set/art@1.0.0" in npm["command"]
    assert "--ignore-scripts" in npm["command"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"content": b"other"}, "has the sum sha512"), ({"status": 1}, "failed: E404 not found")],
)
def test_a_wrong_or_failed_download_is_refused_and_not_kept(npm, tmp_path, change, message):
    npm.update(change)
    with pytest.raises(RuntimeError, match=message):
        fetch_npm_package(package_of(b"tarball"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_npm_the_error_names_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(npm_styles.shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="styles='pip'"):
        fetch_npm_package(package_of(b""), tmp_path)


def test_icons_are_found_by_their_own_table_by_alias_and_by_letters(tmp_path):
    icons = {"two-hump-camel": {"body": "<a/>"}, "ball": {"body": "<b/>", "width": 9}}
    own = iconify(
        tmp_path / "own.tgz",
        icons=icons,
        chars={"1f42b": "bactrian", "26bd": "ball"},
        aliases={"bactrian": {"parent": "two-hump-camel"}},
        height=32,
        width=32,
    )
    style = IconifyStyle(own, {"1f42b": "ball"})  # the package's own table wins
    assert b'viewBox="0 0 32 32"><a/>' in style.find(CAMEL)
    assert b'viewBox="0 0 9 32"><b/>' in style.find(BALL)
    foreign = iconify(tmp_path / "foreign.tgz", icons={"twohumpcamel": {"body": "<c/>"}}, chars=[])
    style = IconifyStyle(foreign, {"1f42b": "two-hump-camel", "26bd": "ball"})
    assert b"<c/>" in style.find(CAMEL)
    assert style.find(BALL) is None


def test_webp_files_are_found_by_code_points(tmp_path):
    files = {"assets/1f42b.webp": b"camel", "assets/26bd.webp": b"ball", "a.txt": b""}
    style = WebpStyle(write_tarball(tmp_path / "webp.tgz", files))
    assert (style.find(CAMEL), style.find(BALL)) == (b"camel", b"ball")
    assert style.find(EmojiClass("cat", ("1F408",))) is None


def test_held_out_styles_are_never_trained_on():
    train, held_out = set(npm_styles.FULL_TRAIN_STYLES), set(npm_styles.HELD_OUT_STYLES)
    assert not train & held_out
    assert len(train) == 6
    # The Fluent sets are one family of drawings.
    assert {style for style in train | held_out if style.startswith("fluent")} <= held_out
    assert set(npm_styles.NPM_PACKAGES) == (train | held_out) - {"openmoji", "twemoji"}
