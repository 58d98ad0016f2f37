"""The page in a browser: on a desktop and on a phone, light and dark, and printed.

Screenshots are left in out/screenshots for people to look at.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from redline.report import render_page
from redline.report.pdf import find_browser
from tests.report.pages import KINDS

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "out/screenshots"
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
CHECKED_BY_AXE = [(1280, "light"), (390, "dark")]
"""Both colour schemes and both widths, but not every combination, since each takes seconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as started:
        # The browser's own sandbox cannot start as root. The browser opens only a file of this test.
        browser = started.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(KINDS["details"]()), encoding="utf-8")
    return path


OVERFLOWING = """
Array.from(document.querySelectorAll('td, th, dd, li, p, figcaption, summary, pre, svg text')).filter(one => {
  const box = one.getBoundingClientRect();
  const shown = box.width > 1 && one.checkVisibility() && !one.closest('thead');
  const region = one.closest('.scroll');
  const scrolls = region && getComputedStyle(region).overflowX === 'auto';
  const outside = !scrolls && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
  const wider = one.tagName !== 'text' && one.scrollWidth > one.clientWidth + 1;
  const cut = wider && getComputedStyle(one).display !== 'inline';
  return shown && (outside || cut);
}).slice(0, 5).map(one => one.outerHTML.slice(0, 200))
"""
"""Texts that are cut, or that end outside the page. On a screen, a wide table scrolls; on paper, nothing does."""


class Opened:
    """An open page and the events that it caused."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        # Hidden content would not be checked. Trials are alike, so one is enough.
        self.page.evaluate(
            "document.querySelectorAll('details:not([id]), #' + document.querySelector('details[id]').id)"
            ".forEach(one => one.open = true)"
        )


@pytest.mark.first_cases(1)
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_page_loads_nothing_fits_and_is_accessible(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, page_file, width, scheme)
    page = opened.page
    assert opened.said == []
    assert opened.asked == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = (
        "Array.from(document.querySelectorAll('svg')).filter(one => one.getBoundingClientRect().right > innerWidth)"
    )
    assert page.evaluate(f"{overflowing}.length") == 0
    charts = page.locator("svg:visible")
    assert charts.count() >= 4
    for number in range(charts.count()):
        assert charts.nth(number).get_attribute("role") == "img"
        assert len(charts.nth(number).get_attribute("aria-label") or "") > 40
    if (width, scheme) in CHECKED_BY_AXE:
        found = Axe().run(page).response["violations"]
        assert [
            (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
        ] == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"report-{width}-{scheme}.png", full_page=True)
    page.close()


def test_the_first_screen_of_a_phone_shows_the_verdict(browser: Any, page_file: Path) -> None:
    opened = Opened(browser, page_file, 390, "light")
    box = opened.page.locator(".sentence").first.bounding_box()
    assert box["y"] + box["height"] < 844
    opened.page.close()


@pytest.mark.first_cases(2)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("details", "calibration")])
def test_no_text_is_cut_on_a_screen_a_phone_or_paper(browser: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.html"
    path.write_text(render_page(KINDS[kind]()), encoding="utf-8")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, media in ((1280, "screen"), (390, "screen"), (703, "print")):  # A4 without its margins
        opened = Opened(browser, path, width, "light")
        opened.page.emulate_media(media=media)
        assert opened.page.evaluate(OVERFLOWING) == [], (width, media)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        opened.page.screenshot(path=SCREENSHOTS / f"{kind}-{width}-{media}.png")
        opened.page.close()


def test_the_printed_page_contains_evidence_and_prompts(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 703, "height": 900})
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    closed = page.locator("details.printed:not([open]) pre, details.printed:not([open]) table")
    assert closed.count() > 2
    heights = [closed.nth(number).bounding_box() for number in range(min(closed.count(), 8))]
    assert all(box is not None and box["height"] > 10 for box in heights)
    page.close()


def test_the_printed_page_is_light_and_complete(browser: Any, page_file: Path) -> None:
    opened = Opened(browser, page_file, 720, "dark")
    page = opened.page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    assert page.pdf(path=SCREENSHOTS / "report.pdf", format="A4").startswith(b"%PDF-")
    page.close()


def test_the_page_can_be_navigated_by_keyboard(browser: Any, page_file: Path) -> None:
    opened = Opened(browser, page_file, 1280, "light")
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
    page.close()
