"""Every link between pages resolves, anchors included."""

import re
from pathlib import Path

import docs_pages
import pytest
from docs_pages import PAGES, ROOT

ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]


def prose(page: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return GitHub's anchors of a page's headings."""
    found: dict[str, int] = {}
    anchors = set()
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return anchors


def broken(page: Path) -> list[str]:
    """Return the broken links of a page."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if re.match(r"\w+:", link):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", ALL, ids=docs_pages.name)
def test_links_resolve(page: Path) -> None:
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    unlinked = "    indented\n\n```\n[0](no)\n```\n`[1](no)`\n"
    page.write_text(f"# A `b`: c\n{unlinked}[2](#a-b-c) [3](#d) [4](page.md#a-b-c) [5](none.md) [6](https://x.y/z)\n")
    assert broken(page) == ["#d", "none.md"]


@pytest.mark.parametrize("page", PAGES, ids=docs_pages.name)
def test_every_page_is_in_the_index(page: Path) -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert page == index or page in linked
