"""What the page says of a balance."""

from __future__ import annotations

import re

import pytest

from lt_det.report.run_page.writing import PageOptions, save_run_page
from tests.report.run_page.folders import write_balance


@pytest.mark.parametrize("images", [False, True])
def test_a_balance_has_the_metrics_of_its_model(tmp_path, images):
    folder = write_balance(tmp_path / "balance", images=images)
    save_run_page([(None, str(folder))], str(tmp_path / "page"), PageOptions())
    text = (tmp_path / "page" / "report.html").read_text()
    heads = re.findall(r"<th[^>]*>(.*?)</th>", text, re.DOTALL)
    found = {re.sub("<[^>]*>", "", head).strip() for head in heads}
    names = {"mean_class", "few", "medium", "many"} if images else {"AP", "APr", "APc", "APf"}
    assert names <= found
    assert ("NMS" in found) == (not images)
    task, rare = ("classification", "few") if images else ("segm", "APr")
    assert f"Through the whole model, {task}, start to result:" in text
    assert f"{rare} 3.0 to 7.5" in text
    assert f"{rare}: rare classes" in text
    assert ("AP of boxes" in text) == (not images)
    assert "abc123" in text
