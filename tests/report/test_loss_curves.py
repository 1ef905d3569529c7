"""Curves of the losses against the functions themselves, and the page that shows them."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from lt_det.losses import LOSSES, PLAIN_LOSS, LossSpec
from lt_det.report.loss_curves import loss_curve, loss_curves, overview, save_loss_plot
from lt_det.report.loss_page import loss_table

ROOT = Path(__file__).resolve().parents[2]
P = np.linspace(0.01, 0.99, 99)
PLAIN = {"alpha": None, "gamma": 0.0}

#: Worked out by hand, at p = 0.1, 0.5, 0.9.
GOLDEN = [
    ("softmax_ce", {}, (2.302585, 0.693147, 0.105361)),
    ("sigmoid_ce", {}, (2.302585, 0.693147, 0.105361)),
    ("focal", {}, (0.466273, 0.043322, 0.000263)),
    ("halted_focal", {}, (0.466273, 0.043322, -0.103625)),
    ("eureka", {**PLAIN, "bonus": "log"}, (2.197225, 0.0, -2.197225)),
    ("eureka", {**PLAIN}, (2.197225, 0.0, -1.880934)),
    ("eureka", {**PLAIN, "bonus": "power"}, (2.302485, 0.630647, -0.550739)),
    ("eureka", {**PLAIN, "bonus": "simplified"}, (2.302585, 0.693147, -1.504077)),
]


@pytest.mark.parametrize(("name", "parameters", "expected"), GOLDEN)
def test_the_curve_is_the_loss(name, parameters, expected):
    curve = loss_curve(name, np.array([0.1, 0.5, 0.9]), **parameters)
    np.testing.assert_allclose(curve.loss, expected, atol=1e-6)


def test_gradients_of_cross_entropy():
    for name, positive in (("softmax_ce", True), ("sigmoid_ce", True), ("sigmoid_ce", False)):
        curve = loss_curve(name, P, positive=positive)
        np.testing.assert_allclose(curve.gradient, -1 / P)
        np.testing.assert_allclose(curve.logit_gradient, P - 1)


def test_classes_and_labels_are_not_mixed_up():
    rare, frequent = (loss_curve("balanced_softmax", P, column=c) for c in (0, 1))
    # 10 and 1,000 images: the label's logit loses or gains log 100.
    odds = P / (1 - P)
    np.testing.assert_allclose(rare.loss, np.log1p(100 / odds))
    np.testing.assert_allclose(frequent.loss, np.log1p(0.01 / odds))
    positive, negative = (loss_curve("focal", P, positive=value) for value in (True, False))
    np.testing.assert_allclose(negative.loss, 3 * positive.loss)  # (1 - alpha) / alpha
    rare = loss_curve("balanced_sigmoid", P, column=0)
    np.testing.assert_allclose(rare.loss, np.log1p(1990 / 10 / odds))  # 10 of 2,000 images


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_curve_is_finite_and_has_its_own_gradient(name):
    # On both sides of the kinks at 0.5 and 0.75, not across.
    p, step = P[(np.abs(P - 0.5) > 1e-3) & (np.abs(P - 0.75) > 1e-3)], 1e-5
    if name == "seesaw":
        return  # its factors have no gradient: what trains is not the slope of what is drawn
    below, curves, above = (loss_curves(name, p + d) for d in (-step, 0, step))
    labels = [curve.label for curve in curves]
    assert len(set(labels)) == len(labels) > 0
    for low, curve, high in zip(below, curves, above):
        assert np.isfinite(curve.loss).all()
        slope = (high.loss - low.loss) / (2 * step)
        np.testing.assert_allclose(curve.gradient, slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("softmax_halted_focal", {}),
        *(("halted_focal", {"mode": mode}) for mode in ("positives", "p_t", "release")),
    ],
)
def test_halted_curves_are_continuous_and_fall(name, parameters):
    sides = (True,) if name.startswith("softmax") else (True, False)
    for positive in sides:
        fine = np.linspace(0.49, 0.51, 2001)
        curve = loss_curve(name, fine, positive=positive, **parameters)
        assert np.abs(np.diff(curve.loss)).max() < 1e-4
        assert (np.diff(curve.loss) < 0).all()


def test_named_choices_have_their_own_lines():
    labels = [curve.label for curve in loss_curves("eureka", P)]
    bonuses = ["conservative", "log", "power", "simplified"]
    assert labels == [*(f"bonus={bonus}: positive" for bonus in bonuses), "negative"]
    curves = {curve.label: curve for curve in loss_curves("halted_focal", P)}
    assert list(curves) == [
        "positive",
        *(f"mode={mode}: negative" for mode in ("positives", "p_t", "release")),
    ]
    focal = loss_curve("focal", P, positive=False).loss
    equal = {
        label: np.isclose(curve.loss, focal, rtol=0, atol=1e-9)
        for label, curve in curves.items()
        if label != "positive"
    }
    assert equal["mode=positives: negative"].all()
    np.testing.assert_array_equal(equal["mode=p_t: negative"], P <= 0.5)
    np.testing.assert_array_equal(equal["mode=release: negative"], P >= 0.5)


def test_the_overview_shows_every_loss_once():
    curves = [curve for kind in overview(P).values() for curve in kind]
    assert sorted(curve.label for curve in curves) == sorted(LOSSES)
    eureka = next(curve for curve in curves if curve.label == "softmax_eureka")
    np.testing.assert_array_equal(eureka.loss, loss_curve("softmax_eureka", P, column=0).loss)


def test_panels_show_loss_and_both_gradients(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw))
    )
    curves = loss_curves("balanced_softmax", P)
    save_loss_plot({"a": curves}, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    panels = figures[0].axes
    for axes, quantity in zip(panels, ("loss", "gradient", "logit_gradient")):
        lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
        for curve in curves:
            expected = np.stack([P, getattr(curve, quantity)], axis=1)
            np.testing.assert_array_equal(lines[curve.label], expected)
        ce = loss_curve("softmax_ce", P)
        np.testing.assert_array_equal(lines["CE"][:, 1], getattr(ce, quantity))
    legend = [text.get_text() for text in panels[2].get_legend().get_texts()]
    assert legend == ["CE", *(curve.label for curve in curves)]


def margin_loss(logits, labels, *, class_counts, max_margin: float = 0.5, reduction="none"):
    """Return a loss that nobody has heard of.

    More text.
    """
    del reduction
    shift = max_margin * (class_counts.min() / class_counts) ** 0.25
    own = torch.nn.functional.one_hot(labels, len(class_counts)) * shift
    return torch.nn.functional.cross_entropy(logits - own, labels, reduction="none")


@pytest.fixture
def few_losses():
    """Leave five losses, a picture takes half a second; all are back in their order afterwards."""
    all_of_them = dict(LOSSES)
    for name in LOSSES.keys() - {*PLAIN_LOSS.values(), "balanced_softmax", "eureka"}:
        del LOSSES[name]
    yield
    LOSSES.clear()
    LOSSES.update(all_of_them)


@pytest.mark.usefixtures("few_losses")
def test_a_new_row_needs_no_edit(tmp_path, capsys):
    LOSSES["margin"] = LossSpec(margin_loss, "softmax", "arXiv:1906.07413")
    written = tmp_path / "reference" / "losses.md"
    written.parent.mkdir()
    written.write_text("# By hand\n")
    tool = runpy.run_path(str(ROOT / "tools" / "plot_losses.py"))
    for _ in range(2):  # the second call replaces what the first has written
        tool["main"](["--docs", str(tmp_path)])
    page = written.read_text()
    assert page.startswith("# By hand\n")
    assert page.count(tool["MARK"]) == 1
    assert "a loss that nobody has heard of |" in re.sub(" +", " ", page)
    assert "[1906.07413](https://arxiv.org/abs/1906.07413)" in page
    assert "max_margin 0.5" in page
    for name in [*LOSSES, "overview"]:
        assert page.count(f"(../images/losses/{name}.png)") == 1
        assert (tmp_path / "images" / "losses" / f"{name}.png").stat().st_size > 1000
    assert f"{len(LOSSES)} losses" in capsys.readouterr().out
    labels = [curve.label for curve in loss_curves("margin", P)]
    assert labels == ["positive, rare class", "positive, frequent class"]
    at_half = loss_curve("margin", np.array([0.5])).loss[0]
    assert math.isclose(at_half, math.log1p(math.exp(0.5)))


def test_the_page_of_the_docs_is_complete():
    path = ROOT / "docs" / "reference" / "losses.md"
    page = path.read_text(encoding="utf-8")
    advice = "run python tools/plot_losses.py"
    listed = re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)
    assert listed == list(LOSSES), advice
    assert listed == re.findall(r"^\| `(\w+)`", loss_table(), flags=re.MULTILINE)
    for link in re.findall(r"\]\(((?!http)[^)#]+)", page):
        assert (path.parent / link).is_file(), f"{link}: {advice}"
    for image in (ROOT / "docs" / "images" / "losses").iterdir():
        assert image.stem in [*LOSSES, "overview"]
        assert image.stat().st_size < 150_000
