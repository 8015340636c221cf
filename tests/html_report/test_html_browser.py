"""The page in a real browser: errors, requests, charts, sorting, filtering, accessibility. Skips without Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import made_up
import pytest
from commands import prepkd
from prepkd.html_report.report import build

playwright = pytest.importorskip("playwright.sync_api", reason="the test extra has Playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the test extra has axe-core")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; on Debian: apt-get install chromium")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
WIDTHS = (390, 1024, 1600)
# Chart name -> [number of data marks with a shape, width]; axes and legends don't count.
MARKS = """() => Object.fromEntries([...document.querySelectorAll('[data-spec]')].map((place) => {
  const shapes = [...place.querySelectorAll('.role-mark:not(.role-frame) path')].filter((one) => one.getAttribute('d'));
  return [place.dataset.spec, [shapes.length, place.querySelector('svg').getBoundingClientRect().width]];
}))"""


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """The system's Chromium, driven by Playwright; one for all tests."""
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 100 classes with hostile names."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "report.html").write_bytes(build(made_up.results(folder))[0])
    return folder / "report.html"


@pytest.fixture(scope="module")
def digits(whole_project: Path) -> Iterator[Path]:
    """The page of a project in which every stage has run."""
    from whole_project import SETTINGS

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(whole_project)
        patch.setenv("PREPKD_SCRATCH", str(whole_project / "scratch"))
        prepkd("report", "--out", "page/report.html", **SETTINGS)
        yield whole_project / "page/report.html"
        shutil.rmtree(whole_project / "page")


class Opened:
    """A page in the browser, with its console messages and errors (`said`) and its requests (`asked`)."""

    def __init__(self, browser: "playwright.Browser", path: Path, width: int = 1024, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("[data-spec]:not([data-drawn])", state="detached")

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the selected elements that are visible."""
        return [one.inner_text() for one in self.page.locator(selector).all() if one.is_visible()]


@pytest.fixture(params=["digits", "many"])
def path(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_error_no_request_and_every_chart_is_drawn(browser: "playwright.Browser", path: Path, scheme: str) -> None:
    with Opened(browser, path, scheme=scheme) as opened:
        assert not opened.said
        assert [one for one in opened.asked if not one.startswith("data:")] == [path.as_uri()]
        charts = opened.page.evaluate(MARKS)
        assert len(charts) >= 8
        for name, (marks, width) in charts.items():
            assert marks > 0 and width > 300, (name, marks, width)
        assert opened.page.evaluate("window.pwned") is None


def test_a_policy_stops_what_a_page_would_load(browser: "playwright.Browser", many: Path) -> None:
    """The policy blocks requests and scripts that are injected into the page, and each leaves a message."""
    with Opened(browser, many) as opened:
        opened.page.evaluate(
            "() => { const one = new Image(); one.src = 'http://127.0.0.1:9/x.png'; document.body.append(one); }"
        )
        opened.page.evaluate("() => fetch('http://127.0.0.1:9/y').catch(() => {})")
        opened.page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.pwned = 2'; document.body.append(s); }"
        )
        refused: list[str] = []
        for _ in range(100):  # messages arrive later on a loaded machine
            opened.page.wait_for_timeout(100)
            if len(refused := [one for one in opened.said if "Content Security Policy" in one]) >= 3:
                break
        assert len(refused) >= 3
        assert opened.page.evaluate("window.pwned") is None


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1024, "light")])
def test_axe_finds_nothing(browser: "playwright.Browser", path: Path, scheme: str, width: int) -> None:
    """axe finds no violation with some of the tables open; all would take long, a second per thousand cells."""
    with Opened(browser, path, width, scheme) as opened:
        opened.page.evaluate(
            "document.querySelectorAll('details:nth-of-type(odd)').forEach((one, k) => { one.open = k < 3; })"
        )
        found = axe.Axe().run(opened.page)
        problems = [
            (one["id"], one["nodes"][0]["html"][:200], len(one["nodes"])) for one in found.response["violations"]
        ]
        assert not problems


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(browser: "playwright.Browser", path: Path, width: int) -> None:
    with Opened(browser, path, width) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_columns_are_sorted_both_ways_by_mouse_and_keyboard(browser: "playwright.Browser", many: Path) -> None:
    with Opened(browser, many) as opened:
        table = opened.page.locator("#methods-1")
        head = table.locator("th", has_text="test top-1")
        place = [one.inner_text() for one in table.locator("thead th").all()].index(head.inner_text()) + 1

        def shown() -> list[float]:
            cells = opened.texts(f"#methods-1 tbody tr > :nth-child({place})")
            return [float(one.split()[0]) for one in cells]

        before = shown()
        head.locator("button").click()
        assert shown() == sorted(before, reverse=True) and head.get_attribute("aria-sort") == "descending"
        head.locator("button").press("Enter")
        assert shown() == sorted(before) and head.get_attribute("aria-sort") == "ascending"
        name = table.locator("th", has_text="method").first
        name.locator("button").press("Space")
        runs = opened.texts("#methods-1 tbody th")
        assert runs == sorted(runs, key=str.lower) and head.get_attribute("aria-sort") == "none"
        # Empty cells, such as the baseline's difference, are last in both directions.
        for _ in range(2):
            table.locator("th", has_text="minus kd").first.locator("button").click()
            assert opened.texts("#methods-1 tbody th")[-1] == "kd"


def test_rows_and_cards_are_filtered(browser: "playwright.Browser", digits: Path, many: Path) -> None:
    with Opened(browser, many) as opened:
        field = opened.page.get_by_label("Filter").first
        field.fill("DTD ka-ps")
        assert opened.texts("#methods-1 tbody th") == ["ka-ps+dtd-flsw"]
        assert opened.texts(".count")[0] == "1 of 6"
        field.fill("")
        assert len(opened.texts("#methods-1 tbody th")) == 6
    with Opened(browser, digits) as opened:
        cards = opened.texts("#repaired-1 .card .title")
        opened.page.locator("#repaired input").fill(cards[0])
        assert 0 < len(opened.texts("#repaired-1 .card")) <= len(cards)
        assert cards[0] in opened.texts("#repaired-1 .card .title")


def test_the_first_key_leads_past_the_navigation(browser: "playwright.Browser", many: Path) -> None:
    with Opened(browser, many) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the results"
        opened.page.keyboard.press("Enter")
        assert opened.page.evaluate("document.activeElement.id") == "main"
        opened.page.keyboard.press("Tab")
        outline = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus is visible"


def test_dark_and_print_change_the_charts_colours(browser: "playwright.Browser", many: Path) -> None:
    colour = "getComputedStyle(document.querySelector('#training svg .mark-line path')).stroke"
    with Opened(browser, many) as opened:
        light = opened.page.evaluate(colour)
        opened.page.emulate_media(color_scheme="dark")
        dark = opened.page.evaluate(colour)
        opened.page.emulate_media(color_scheme="dark", media="print")
        assert light != dark and opened.page.evaluate(colour) == light
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert len(opened.page.pdf()) > 10_000


def test_tooltips_show_names_as_text(browser: "playwright.Browser", many: Path) -> None:
    with Opened(browser, many) as opened:
        marks = opened.page.locator("#confusions [data-spec] svg .mark-rect path").all()
        marks[0].hover(force=True)
        tooltip = opened.page.locator("#vg-tooltip-element")
        tooltip.wait_for()
        assert re.search("actual|predicted", tooltip.inner_text())
        assert not tooltip.locator("img, script").count() and opened.page.evaluate("window.pwned") is None
