"""The page in a headless Chromium: sorts, searches, links, shows its images, fetches nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.run_page.folders import EVIL, NAMES

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the dev extra: playwright")

#: Chromium of the system, where playwright has not installed its own.
_OF_SYSTEM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = (
            own if os.path.isfile(own) else next(filter(None, map(shutil.which, _OF_SYSTEM)), None)
        )
        if path is None:
            pytest.skip("needs a browser: playwright install chromium, or the package chromium")
        # In a container nobody but root is there, and Chromium's sandbox refuses root.
        sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]
        try:
            browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        except sync_api.Error as error:  # such as a library of the system that is missing
            pytest.skip(f"the browser {path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def requests() -> list[str]:
    return []


@pytest.fixture(scope="module")
def problems() -> list[str]:
    return []


@pytest.fixture(scope="module")
def tab(browser, page: Path, requests, problems) -> Any:
    tab = browser.new_page(viewport={"width": 1600, "height": 900})
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
    tab.goto(page.as_uri())
    return tab


def column(tab: Any, number: int) -> list[str]:
    """Return the texts of a column of the class table, as shown."""
    rows = "#classes-table tbody tr:not([hidden])"
    return tab.eval_on_selector_all(rows, f"rows => rows.map(r => r.cells[{number}].innerText)")


def test_a_click_sorts_by_value_and_a_second_one_turns_it(tab):
    head = tab.locator("#classes-table thead button").nth(2)  # training images
    head.click()
    assert column(tab, 2) == ["500", "300", "40", "30", "5", "2"]
    assert head.locator("..").get_attribute("aria-sort") == "descending"
    head.click()
    assert column(tab, 2) == ["2", "5", "30", "40", "300", "500"]
    tab.locator("#classes-table thead button").first.click()
    assert column(tab, 0) == sorted(NAMES, key=str.lower)


def test_search_and_group_leave_rows_that_fit(tab):
    find = tab.locator(".find[data-table=classes-table]")
    find.locator("input").fill("OWL")
    assert column(tab, 0) == ["owl"]
    assert find.locator("output").inner_text() == "1 of 6"
    find.locator("input").fill("")
    find.locator("select").select_option("r")
    assert sorted(column(tab, 0)) == sorted([EVIL, "axolotl"])
    find.locator("select").select_option("")
    assert len(column(tab, 0)) == len(NAMES)


def test_a_class_leads_to_its_images(tab):
    tab.locator("#classes-table a", has_text="axolotl").click()
    tab.wait_for_function("location.hash.startsWith('#class-')")
    opened = tab.locator("details[open]")
    assert opened.count() == 1
    assert opened.locator("summary b").inner_text() == "axolotl"
    assert opened.locator("svg.scene").first.is_visible()


def test_every_link_leads_somewhere(tab):
    script = """links => links.map(a => a.getAttribute("href"))
      .filter(href => !document.getElementById(href.slice(1)))"""
    assert tab.eval_on_selector_all("a", script) == []
    assert tab.eval_on_selector_all("use", script.replace("links", "uses")) == []


def test_images_are_there(tab):
    sizes = tab.evaluate(
        """async () => Promise.all([...document.querySelectorAll("image")].map(async one => {
             const image = new Image();
             image.src = one.getAttribute("href");
             await image.decode();
             return image.naturalWidth; }))"""
    )
    shown = "uses => new Set(uses.map(use => use.getAttribute('href'))).size"
    assert len(sizes) == tab.eval_on_selector_all("use", shown) >= len(NAMES)
    assert set(sizes) == {120}


def test_parts_tell_what_they_are(tab):
    assert tab.locator("svg[role=img]:not([aria-label])").count() == 0
    titles = tab.locator("#frequency ~ .charts circle title").all_text_contents()
    assert any(title.startswith("axolotl: ") for title in titles)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_overflow_and_colours_of_the_scheme(tab, width, scheme):
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 26)"}[scheme]


_WORDS = """kind => [...document.querySelectorAll(kind)].flatMap(chart => {
  const words = [...chart.querySelectorAll("text")].map(t => [t.textContent,
    t.getBoundingClientRect()]);
  const cover = ([, a], [, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  return words.flatMap((a, i) => words.slice(i + 1).filter(b => cover(a, b))
    .map(b => a[0] + " | " + b[0])); })"""


@pytest.mark.parametrize("kind", [".chart", ".scene"])
def test_words_do_not_cover_each_other(tab, kind):
    tab.set_viewport_size({"width": 1600, "height": 900})
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.locator(f"{kind} text").count() > 5
    assert tab.evaluate(_WORDS, kind) == []


def test_tables_keep_their_heads_on_a_narrow_screen(tab):
    tab.set_viewport_size({"width": 400, "height": 900})
    heads = tab.locator(".scroll:not(.words) thead")
    assert heads.count() > 5
    assert all(heads.nth(i).is_visible() for i in range(heads.count()))
    widths = heads.evaluate_all("heads => heads.map(head => head.rows[0].cells[0].offsetWidth)")
    assert all(100 < width < 200 for width in widths)
    tab.set_viewport_size({"width": 1600, "height": 900})


def test_paper_shows_all_rows_and_no_fields(tab):
    tab.emulate_media(media="print")
    assert not tab.locator(".find").first.is_visible()
    assert tab.locator("#classes-table tbody tr").last.is_visible()
    tab.set_viewport_size({"width": 718, "height": 900})  # A4 within its margins
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718
    tab.set_viewport_size({"width": 1600, "height": 900})
    tab.emulate_media(media="screen")


def test_no_request_leaves_the_page_and_no_script_fails(tab, page, requests, problems):
    assert [r for r in requests if not r.startswith("data:")] in ([page.as_uri()], [])
    assert all(r.startswith(("data:", page.as_uri())) for r in requests)
    assert problems == []
