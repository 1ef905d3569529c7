"""Names out of foreign files are shown as they are, and do nothing."""

from __future__ import annotations

import pytest

from lt_det.shown_text import for_csv, for_log, for_plot, for_terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("Bär 猫 👩\u200d🍳", "Bär 猫 👩\\u200d🍳"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\nb\tc\r\x00", r"a\nb\tc\r\x00"),
        ("\x9b31m", r"\x9b31m"),  # the one-byte spelling of an escape sequence
        ("abc\u202etxt", r"abc\u202etxt"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert for_terminal(text) == shown
    shown.encode()


def test_logs_keep_lines_tabs_and_colours():
    assert for_log("\x1b[36m a\n\tb \x1b[0m") == "\x1b[36m a\n\tb \x1b[0m"
    assert for_log("\x1b[2J \x1b[31m\x1b]0;x\x07\r") == "\\x1b[2J \x1b[31m\\x1b]0;x\\x07\\r"


@pytest.mark.parametrize(
    "formula",
    [
        *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+1e"),
        # Spreadsheets drop these in front, or read the wide forms as the narrow ones.
        *("\n=1", "\na", "\ta", "\ra", "＝1+1", "＋1", "－2+3", "＠SUM(A1)", "﹢1", "﬩1", "−2+3"),  # noqa: RUF001
        *(" =1", "\u3000=1", "\xa0=1", "\ufeff=1", "\u200b＝1", "\x00=1", "\x1b=1", "\v=1"),
    ],
)
def test_formulas_get_a_mark(formula):
    assert for_csv(formula) == "'" + formula


@pytest.mark.parametrize(
    "value", [-1.5, -3, None, "", "-1.5", "+2", "-.5e-3", "a=b", "x-y", "12", " a"]
)
def test_numbers_and_names_stay(value):
    assert for_csv(value) == value


def test_dollars_are_no_formula():
    assert for_plot(r"$\frac$ 5$") == r"\$\frac\$ 5\$"
