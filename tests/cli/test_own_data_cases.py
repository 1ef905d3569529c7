"""The cases of own data: what is said of each is what the table, and the page, say."""

from __future__ import annotations

import os

import pytest

from tests.cli import own_data_cases as cases

ROWS = {row["case"]: row for row in cases.rows()}
needs_cases = pytest.mark.skipif(
    not cases.ROOT.is_dir(), reason="../shared/cases/own_data is not there"
)


def test_the_page_is_that_of_the_table():
    assert cases.PAGE.read_text(encoding="utf-8") == cases.page_text(), (
        "python -m tests.cli.own_data_cases writes it"
    )


@needs_cases
def test_every_case_is_in_the_table():
    found = {name for name in os.listdir(cases.ROOT) if (cases.ROOT / name / "images").exists()}
    assert found == set(ROWS)


@needs_cases
@pytest.mark.parametrize("case", [case for case, row in ROWS.items() if row["check"]])
def test_check_data_says_it(case):
    assert any(ROWS[case]["check"] in one.text() for one in cases.check(case).findings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert cases.train("21-run-twice", folder).error == ""
    return folder


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("case", ROWS)
def test_training_says_it(case, tmp_path, request):
    row = ROWS[case]
    options, flags, folder = list(row.get("options", [])), [], tmp_path
    if row.get("weights"):
        folder = request.getfixturevalue("trained")
        options += ["MODEL.WEIGHTS", str(folder / "run/model_final.pth")]
        folder = tmp_path
    if row.get("resume"):
        folder, flags = request.getfixturevalue("trained"), ["--resume"]
    if row.get("twice"):
        folder = request.getfixturevalue("trained")
    said = cases.train(
        case,
        folder,
        options=options,
        flags=flags,
        train_json=row.get("train_json", "train.json"),
        more=row.get("more", []),
    )
    assert bool(said.error) == row.get("ends", False), said.error
    assert row["training"] in (said.error if row.get("ends") else said.log)
    if row.get("then"):
        assert cases.train(case, tmp_path, run="then", options=row["then"]).error == ""
    if row.get("perfect"):
        assert cases.perfect(case)["AP"] == pytest.approx(100.0)
