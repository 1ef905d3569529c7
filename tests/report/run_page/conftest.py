"""One page for all tests of it: two runs of ours and an output of balance."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_det.cli.commands import main
from tests.report.run_page.folders import write_balance, write_run, write_test_set


@pytest.fixture(scope="package")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    val = write_test_set(folder / "zoo")
    runs = [
        write_run(folder / "plain", val),
        write_run(folder / "balms", val, loss="balanced_softmax", rare=0.8),
        write_balance(folder / "balance"),
    ]
    assert main(["report", *map(str, runs), "--output", str(folder / "report")]) == 0
    return folder / "report" / "report.html"
