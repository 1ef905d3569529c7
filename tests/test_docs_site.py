"""The site of docs/ builds, strictly; it needs no network and has the whole package in it."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import lt_det

ROOT = Path(__file__).resolve().parents[1]
#: Of the modules, those that nobody imports: entry points, and what the package says of itself.
NOT_IN_THE_REFERENCE = {"__main__", "api", "config_errors", "detectron2_required", "shown_text"}


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="mkdocs-material is not installed (extra docs)")
    pytest.importorskip("mkdocstrings_handlers.python", reason="extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    result = build(folder, "--strict")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def pages(site: Path) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}


def test_nothing_is_loaded_from_the_network(site):
    """Links may lead out; scripts, styles, fonts and pictures come from the site itself."""
    for path, text in pages(site).items():
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?([^\"'\s>]+)", text)
        for link in re.findall(r"<link\b[^>]*>", text):
            if not re.search(r"rel=[\"']?(?:canonical|next|prev)", link):
                loaded += re.findall(r"href=[\"']?([^\"'\s>]+)", link)
        assert loaded
        assert not [url for url in loaded if re.match(r"(?:https?:)?//", url)], path.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?https?:", style.read_text("utf-8"))


def test_links_and_anchors_lead_somewhere(site):
    """All of them, those that themes and docstrings make included."""
    texts = pages(site)
    anchors = {path: set(re.findall(r"\bid=[\"']?([^\"'\s>]+)", t)) for path, t in texts.items()}
    wrong = []
    for path, text in texts.items():
        if path.name == "404.html":  # served for any address, so its links are absolute
            continue
        for link in set(re.findall(r"\b(?:href|src)=[\"']?([^\"'\s>]+)", text)):
            url, _, anchor = unquote(html.unescape(link)).partition("#")
            if re.match(r"\w+:", url):
                continue
            target = (path.parent / url).resolve() if url else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                anchor and anchor != "__comments" and anchor not in anchors.get(target, {anchor})
            ):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_every_module_and_public_name_is_in_the_reference(site):
    reference = "".join(t for p, t in pages(site).items() if "api" in p.parent.name)
    documented = set(re.findall(r"\bid=\"(lt_det[\w.]*)\"", reference))
    modules = set()
    for path in (ROOT / "lt_det").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__init__" and parts[1] not in {*NOT_IN_THE_REFERENCE, "version"}:
            modules.add(".".join(parts))
    assert not modules - documented
    for name in set(lt_det.__all__) - {"__version__"}:
        value = getattr(lt_det, name)
        assert f"{value.__module__}.{value.__qualname__}" in documented, name


def test_search_knows_pages_and_docstrings(site):
    """From a file too: there the index is a script, as no page may fetch another."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert "background/balms.html" in places
    assert "reference/api/index.html#lt_det.api.patch" in places
    assert (site / "search" / "search_index.js").read_text("utf-8").startswith("var __index")
    assert 'src="assets/iframe-worker.js"' in (site / "index.html").read_text("utf-8")


def test_every_page_is_in_the_menu():
    """The build says so too, and fails; this one needs no mkdocs."""
    menu = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    docs = ROOT / "docs"
    found = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert menu == found
    folders = {name.partition("/")[0] for name in found - {"index.md"}}
    assert folders == {"tutorial", "how-to", "reference", "background"}
