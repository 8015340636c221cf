"""`make site`: every page is in the navigation, links hold, and nothing is loaded from another host. Skips without the extra."""

import functools
import http.server
import importlib.util
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from commands import ROOT

sys.path.append(str(ROOT / "docs/site"))
import build_site
import site_check
import site_pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MISSING = [name for name in ("zensical", "latex2mathml") if importlib.util.find_spec(name) is None]
needs_the_extra = pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}; `pip install '.[site]'`")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
LONG = "docs/reference/methods.html"


def paths(nav: "site_pages.Nav | str") -> list[str]:
    """The paths of a navigation's pages, in order."""
    return (
        [nav] if isinstance(nav, str) else [path for entry in nav for inner in entry.values() for path in paths(inner)]
    )


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(paths(site_pages.navigation())) == sorted(site_pages.sources())


def test_the_navigation_goes_from_the_tutorial_to_the_explanations() -> None:
    sections = [title for entry in site_pages.navigation() for title in entry]
    kinds = ["Home", "Overview", "Tutorial", "How-to", "Reference", "Explanation", "Measured", "Project"]
    assert sections == kinds


def test_the_index_s_lists_become_a_navigation() -> None:
    index = "# Pages\n\n## A\n\n- [one](1.md): x\n  [not this](0.md)\n\n### B\n\n- [two](b/2.md)\n\n## C\n\n- [three](3.md)\n"
    assert site_pages.navigation(index)[2:-1] == [
        {"A": [{"one": "docs/1.md"}, {"B": [{"two": "docs/b/2.md"}]}]},
        {"C": [{"three": "docs/3.md"}]},
    ]


@needs_the_extra
def test_formulas_become_mathml() -> None:
    assert "<mi>" in site_pages.mathml(r"\tau_0", "inline") and "_" not in site_pages.mathml(r"\tau_0", "inline")
    with pytest.raises(ValueError, match="commands that latex2mathml knows"):
        site_pages.mathml(r"\nosuchcommand x", "inline")


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="none.html">x</a>', "links to none.html: there is no such file"),
        ('<a href="#none">x</a>', "links to #none: there is no such heading"),
        ('<a href="other.html#b">x</a>', "links to other.html#b: there is no such heading"),
        ('<img src="none.png">', "links to none.png: there is no such file"),
        ('<script src="https://cdn.example.org/a.js"></script>', "loads https://cdn.example.org/a.js"),
        ('<link rel="stylesheet" href="//fonts.example.org/a">', "loads //fonts.example.org/a"),
        ('<h2 id="a">A</h2><a href="#a">x</a><a href="other.html#c">x</a><a href="https://example.org">x</a>', None),
    ],
)
def test_faults_of_a_page_are_found(tmp_path: Path, html: str, fault: str | None) -> None:
    (tmp_path / "page.html").write_text(html)
    (tmp_path / "other.html").write_text('<h2 id="c">C</h2>')
    assert site_check.faults(tmp_path) == ([f"page.html {fault}"] if fault else [])


@pytest.mark.parametrize("text", ["@import 'https://a.example.org/x'", "a { src: url(//a.example.org/x) }"])
def test_styles_and_scripts_that_load_from_elsewhere_are_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/a.css").write_text(text)
    (tmp_path / "assets/b.js").write_text("import('https://b.example.org/x'); x = 'http://www.w3.org/2000/svg'")
    styles, scripts = site_check.faults(tmp_path)
    assert "a.css names" in styles and "a.example.org" in styles
    assert scripts == "assets/b.js names https://b.example.org"


def test_versions_stay_and_the_newest_comes_first(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", "0.2.0"):
        made = tmp_path / "made"
        made.mkdir()
        for file in ("index.html", "search.js"):
            (made / file).write_text(version)
        build_site.publish(made, tmp_path / "site", version)
    assert 'VERSIONS = ["0.10.0", "0.9.0", "0.2.0"]' in (tmp_path / "site/versions.js").read_text()
    assert "url=0.10.0/index.html" in (tmp_path / "site/index.html").read_text()
    assert (tmp_path / "site/0.9.0/index.html").read_text() == "0.9.0"


def test_other_files_in_a_version_s_place_are_kept(tmp_path: Path) -> None:
    (tmp_path / "site/1.0").mkdir(parents=True)
    (tmp_path / "site/1.0/mine.txt").write_text("mine")
    (tmp_path / "made").mkdir()
    with pytest.raises(SystemExit, match="found other files"):
        build_site.publish(tmp_path / "made", tmp_path / "site", "1.0")
    assert (tmp_path / "site/1.0/mine.txt").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it, with an older version beside it."""
    folder = tmp_path_factory.mktemp("site")
    html = build_site.build(tmp_path_factory.mktemp("build"))
    shutil.copytree(html, folder / "0.0.1")
    build_site.publish(html, folder, build_site.VERSION)
    return folder


@needs_the_extra
def test_the_site_has_every_page_and_no_fault(site: Path) -> None:
    built = site / build_site.VERSION
    assert site_check.faults(built) == []
    for page in site_pages.sources():
        html = built / re.sub(r"README\.md$", "index.md", page).replace(".md", ".html")
        heading = re.findall(r"<h1[^>]*>(.*?)<a", html.read_text(), re.S)
        assert len(heading) == 1, page
        assert "<!-- commands" not in html.read_text(), page
    formulas = (built / "docs/explanation/knowledge-adjustment.html").read_text()
    assert formulas.count('display="block"') == 3 and "$" not in re.sub(r"<code.*?</code>", "", formulas, flags=re.S)
    settings = re.sub(r"<[^>]+>", "", (built / "params.yaml.html").read_text())
    assert "prepkd prepare -&gt; data/" in settings, "a file of the repository that pages link to is a page"


@needs_the_extra
def test_a_broken_link_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"README.md": "# A\n\n[x](docs/reference/cli.md#nowhere)\n", "docs/reference/cli.md": "# Commands\n"}
    monkeypatch.setattr(site_pages, "sources", lambda: list(texts))
    monkeypatch.setattr(site_pages, "markdown", lambda path: texts[path])
    monkeypatch.setattr(site_pages, "navigation", lambda: [{"Home": "README.md"}])
    with pytest.raises(SystemExit, match="anchor does not exist"):
        build_site.build(tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """The system's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the test extra has Playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, headless=True, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The URL of a local web server for the site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print no requests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@needs_the_extra
@pytest.mark.parametrize("how", ["from the folder", "from a server"])
def test_reading_searching_and_choosing_a_version_need_no_network(
    how: str,
    site: Path,
    served: str,
    browser: "Browser",
) -> None:
    root = site.as_uri() if how == "from the folder" else served
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{root}/index.html")
    page.wait_for_url(f"{root}/{build_site.VERSION}/index.html")
    page.goto(f"{root}/{build_site.VERSION}/{LONG}")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "a page must not scroll sideways"
    page.set_viewport_size({"width": 1280, "height": 900})
    search = page.locator("dialog input").first
    search.wait_for(state="attached")  # before the search is there, the key is lost
    page.keyboard.press("Control+k")
    search.fill("torchrun")
    page.locator("dialog a", has_text="Train in several processes").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_label("Version", exact=True).select_option("0.0.1")
    page.wait_for_url(f"{root}/0.0.1/index.html")
    assert [url for url in asked if not url.startswith((root, "data:", "blob:"))] == []
    assert said == []
    page.close()


@needs_the_extra
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(scheme: Literal["light", "dark"], site: Path, browser: "Browser") -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the test extra has axe-core")
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    for name in ("index.html", "docs/explanation/dynamic-temperature.html"):
        page.goto((site / build_site.VERSION / name).as_uri())
        found = axe.Axe().run(page).response["violations"]
        assert [fault for fault in found if fault["impact"] in ("serious", "critical")] == []
    page.close()
