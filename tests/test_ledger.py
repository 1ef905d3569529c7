"""The ledger: its page is that of its data, and its configs are there."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "background"
TOOL = runpy.run_path(str(ROOT / "tools" / "ledger.py"))


@pytest.fixture
def ledger():
    return yaml.safe_load((FOLDER / "ledger.yaml").read_text(encoding="utf-8"))


def test_the_page_is_that_of_the_data(ledger):
    page = (FOLDER / "ledger.md").read_text(encoding="utf-8")
    assert TOOL["page"](ledger) == page, "run python tools/ledger.py"


def expanded(pattern: str) -> list[str]:
    """Return the paths of a pattern with braces, as a shell does."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(found) for found in itertools.product(*choices)]


def test_configs_are_there(ledger):
    found = [
        pattern
        for tables in ledger.values()
        for table in tables.values()
        for pattern in re.findall(r"configs/[\w./{},]+\.yaml", table["config"])
    ]
    paths = [path for pattern in found for path in expanded(pattern)]
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).is_file()]


def test_a_row_that_contradicts_itself_is_refused(ledger):
    rows = ledger["BALMS, 2007.10740"]["Table 7: CIFAR-LT as others report it"]["rows"]
    for row in ({"paper": "1", "status": "done"}, {"paper": "1", "status": "paper", "here": "2"}):
        rows["all rows"] = row
        with pytest.raises(ValueError, match="Table 7"):
            TOOL["page"](ledger)
    rows["all rows"] = {"paper": "1", "status": "measured"}
    with pytest.raises(ValueError, match="measured"):
        TOOL["page"](ledger)


def test_numbers_of_ours_are_those_of_the_pages(ledger):
    """A number that is corrected in a page is corrected here too."""
    names = [f"background/{name}" for name in ("classification_study", "demo", "eureka", "methods")]
    pages = [(ROOT / "docs" / f"{name}.md").read_text() for name in (*names, "how-to/language")]
    for tables in ledger.values():
        for where, table in tables.items():
            for row in table["rows"].values():
                for number in re.findall(r"\d+\.\d+ ± \d+\.\d+", row.get("here", "")):
                    assert any(number in page for page in pages), f"{where}: {number}"
