"""Places of what charts consist of."""

from __future__ import annotations

import re

import pytest

from lt_det.report.svg import Axis, Chart


@pytest.mark.parametrize("high", [1.0, 1.9, 12345.0])
def test_the_words_of_the_y_axis_stand_beside_its_numbers(high):
    html = str(Chart(Axis(0, 1, "x"), Axis(0, high, "what it is"), name="n").html())
    numbers = re.findall(r"<text x='([\d.]+)' y='[\d.]+' text-anchor='end'>([^<]*)<", html)
    assert len(numbers) > 2
    (words,) = re.findall(r"translate\((\d+) ", html)
    # 13.5 pixels high, their foot at its place; a digit is at most 8.6 wide, a point or comma 4.4.
    for end, text in numbers:
        width = sum(4.4 if letter in ".," else 8.6 for letter in text)
        assert float(end) - width > float(words) + 2


def test_numbers_of_the_x_axis_stay_inside():
    html = str(Chart(Axis(0, 4000, "x"), Axis(0, 1, "y"), name="n", width=300).html())
    ends = re.findall(r"<text x='([\d.]+)' y='[\d.]+' text-anchor='middle'>4,000<", html)
    assert float(ends[0]) + 0.5 * (4 * 8.0 + 4.4) <= 300
