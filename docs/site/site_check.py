"""Faults of the built site: links that lead nowhere, and addresses of other hosts in what a browser loads by itself."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}
HOST = re.compile(rb"https?://(?!www\.w3\.org/)[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.I)
LOADS = re.compile(rb"""(?:@import\s*|url\(\s*)["']?((?:https?:)?//[^"')]+)""")


class Page(HTMLParser):
    """The anchors of a page, its links, and the files that a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect one element's addresses."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if (address := given.get(LOADED.get(tag, ""))) and given.get("rel") != "canonical":
            self.loads.append(address)


def faults(site: Path) -> list[str]:
    """Return a line for each broken link and for each address of another host in scripts, styles, fonts and pictures."""
    pages = {file: Page(file.read_text()) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}
    found = []
    for file, page in pages.items():
        name = file.relative_to(site)
        found += [f"{name} loads {load}" for load in page.loads if urlsplit(load).netloc]
        for link in page.links + page.loads:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = (file.parent / unquote(to.path)).resolve() if to.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name} links to {link}: there is no such file")
            elif to.fragment and target in pages and unquote(to.fragment) not in pages[target].anchors:
                found.append(f"{name} links to {link}: there is no such heading")
    for file in sorted([*site.glob("*/**/*.js"), *site.rglob("*.css")]):  # search.js is the pages' text
        pattern = HOST if file.suffix == ".js" else LOADS
        found += [f"{file.relative_to(site)} names {host.decode()}" for host in {*pattern.findall(file.read_bytes())}]
    return found
