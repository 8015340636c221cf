"""The page's source: escaped, complete, without external addresses, and with a policy that matches its scripts."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import made_up
import pytest
from prepkd.errors import InputError
from prepkd.html_report.page import render, spec_json
from prepkd.html_report.parts import Bar, Card, Facts, Gallery, LeftOut, PageSection, Table, Tile, columns, number, text
from prepkd.html_report.report import build

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028'\"&"
DOT = "data:image/png;base64,iVBORw0KGgo="


class Seen(HTMLParser):
    """A page's elements with their attributes, and its scripts with their texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.script: dict[str, str | None] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.script = dict(attrs)
            self.scripts.append((self.script, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self.script = None

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.scripts[-1] = self.script, self.scripts[-1][1] + data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of made-up results of 100 classes."""
    page, _ = build(made_up.results(tmp_path_factory.mktemp("made-up")))
    return page.decode()


def everything() -> str:
    """A page whose every text is hostile."""
    table = Table(HOSTILE, columns(HOSTILE, "n", numeric=["n"]), [[text(HOSTILE), number(1.0)]], filtered=True)
    gallery = Gallery(HOSTILE, HOSTILE, [Card(DOT, HOSTILE, HOSTILE, [HOSTILE], {HOSTILE: [Bar(HOSTILE, 0.5, True)]})])
    section = PageSection("one", HOSTILE, HOSTILE, [table, gallery, Facts(HOSTILE, [(HOSTILE, [HOSTILE])])], [HOSTILE])
    return render(HOSTILE, HOSTILE, [Tile(HOSTILE, HOSTILE, HOSTILE)], [section], [LeftOut(HOSTILE, HOSTILE)]).decode()


def test_every_text_is_escaped() -> None:
    page = everything()
    seen = Seen(page)
    assert "x" not in [attributes.get("src") for _, attributes in seen.elements]
    assert not [attributes for _, attributes in seen.elements if "onerror" in attributes]
    assert len(seen.scripts) == 2
    assert page.count("&lt;/script&gt;") >= 12


def test_nothing_of_the_page_is_loaded_from_elsewhere(whole: str) -> None:
    for tag, attributes in Seen(whole).elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:")), (tag, name, address[:80])
    style = whole[whole.index("<style>") : whole.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_policy_allows_the_pages_own_scripts_and_no_other(whole: str) -> None:
    seen = Seen(whole)
    (policy,) = [a["content"] for tag, a in seen.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy.startswith("default-src 'none';") and "unsafe-eval" not in policy
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    run = [source for attributes, source in seen.scripts if attributes.get("type") != "application/json"]
    assert [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in run] == allowed
    assert "script-src 'sha256-" in policy and "connect-src" not in policy


def test_specs_survive_the_way_through_html(whole: str) -> None:
    specs = [
        json.loads(source) for attributes, source in Seen(whole).scripts if attributes.get("type") == "application/json"
    ]
    assert len(specs) == 11
    names = {value for spec in specs for value in re.findall(r"window\.pwned", json.dumps(spec))}
    assert names, "hostile names are in the charts as they are"
    hostile = {HOSTILE: [HOSTILE]}
    shown = spec_json(hostile)
    assert json.loads(shown) == hostile and shown.isascii() and not set("<>&") & set(shown)


def test_headings_are_in_order_and_names_unique(whole: str) -> None:
    seen = Seen(whole)
    levels = [int(tag[1]) for tag, _ in seen.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {a["href"][1:] for tag, a in seen.elements if tag == "a" and a.get("href")}
    assert targets <= set(names)


def test_what_is_missing_is_listed_with_its_remedy(whole: str) -> None:
    missing = whole[whole.index('id="left-out"') :]
    assert "Teacher errors that KA repairs" in missing and "cache-logits large" in missing


def test_secrets_of_urls_are_left_out() -> None:
    url = "s3://key:secret@bucket/x.zarr"
    section = PageSection("one", "One", url, [Facts("Store", [("url", [url])])], [url])
    page = render(url, url, [Tile("a", "b", url)], [section], [LeftOut("c", url)]).decode()
    assert "secret" not in page and page.count("s3://***@bucket") >= 5


def test_nothing_to_show_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    made = made_up.results(tmp_path)
    for name in ("info", "test", "labels", "student_logits", "teacher_logits"):
        del vars(made)[name]
    made.comparison = made.training = tmp_path / "none"
    with pytest.raises(InputError, match=r"no results to report: .*; run `dvc repro"):
        build(made)
