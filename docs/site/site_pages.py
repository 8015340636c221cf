"""The pages of the site as Markdown: the repository's own, and one for every other file that they link to."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = "README.md"
INDEX = "docs/README.md"
PROJECT = {"Contributing": "CONTRIBUTING.md", "Changelog": "CHANGELOG.md"}
IMAGES = {".png", ".svg"}
LANGUAGES = {".yaml": "yaml", ".cff": "yaml", ".json": "json", ".py": "python", ".sh": "bash", ".slurm": "bash"}
CODE = re.compile(r"(^```.*?^```$|^    .*?$|`[^`]+`)", re.M | re.S)  # fences, indented lines, spans
COMMENT = re.compile(r"^<!--.*?-->\n?", re.M | re.S)
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # of this repository: without a scheme
BLOCK_MATHS = re.compile(r"^```math\n(.*?)^```$", re.M | re.S)
INLINE_MATHS = re.compile(r"\$([^$]+)\$")

Nav = list[dict[str, "str | Nav"]]


def sources() -> list[str]:
    """Return the repository paths of all pages, without those that only links lead to."""
    return [FIRST, *PROJECT.values(), *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md"))]


def navigation(index: str | None = None) -> Nav:
    """Return the first page, the headings and lists of the index (docs/README.md), and the project's pages."""
    nav: Nav = [{"Home": FIRST}, {"Overview": INDEX}]
    section = here = nav
    for line in ((ROOT / INDEX).read_text() if index is None else index).splitlines():
        if heading := re.match(r"(##|###) (.+)", line):
            outer, here = nav if heading[1] == "##" else section, []
            outer.append({heading[2]: here})
            section = here if heading[1] == "##" else section
        elif link := re.match(r"- \[(.+?)\]\((.+?)\)", line):
            here.append({link[1]: f"docs/{link[2]}"})
    return [*nav, {"Project": [{title: page} for title, page in PROJECT.items()]}]


def write(folder: Path) -> None:
    """Write every page, and the pages and pictures that it links to, below a folder; paths stay those of the repository."""
    waiting, seen = sources(), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        page = as_page(path)
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).suffix in IMAGES:
            target.write_bytes((ROOT / path).read_bytes())
            continue
        text = COMMENT.sub("", markdown(path))
        parts = CODE.split(BLOCK_MATHS.sub(lambda found: mathml(found[1], "block"), text))
        waiting += [repository_path(page, link) for prose in parts[::2] for link in LINK.findall(prose)]
        parts[::2] = [for_site(page, prose) for prose in parts[::2]]  # code is between
        target.write_text("".join(parts))


def for_site(page: str, prose: str) -> str:
    """Return text without code as the site needs it: links to pages, formulas as MathML."""
    linked = LINK.sub(lambda found: page_link(page, found[1]), prose)
    return INLINE_MATHS.sub(lambda found: mathml(found[1], "inline"), linked)


def as_page(path: str) -> str:
    """Return the site's path of a file or folder of the repository; pages and pictures keep theirs."""
    if (ROOT / path).is_dir():
        return f"{path}/index.md"
    return path if Path(path).suffix in {".md", *IMAGES} else f"{path}.md"


def repository_path(page: str, link: str) -> str:
    """Return where a page's link leads in the repository."""
    return os.path.normpath(Path(page).parent / link)


def page_link(page: str, link: str) -> str:
    """Return a page's link to a file of the repository as a link to that file's page."""
    return os.path.relpath(as_page(repository_path(page, link)), Path(page).parent)


def markdown(path: str) -> str:
    """Return a page's text; of another file its content, of a folder the list of its files."""
    file, front = ROOT / path, "---\nsearch: {exclude: true}\nhide: [navigation, toc]\n---\n"
    if file.suffix == ".md":
        return file.read_text()
    if file.is_dir():
        names = sorted(inner.name for inner in file.iterdir() if inner.is_file())
        return "\n".join([f"{front}# {path}/\n", *(f"- [{name}]({name})" for name in names), ""])
    return f"{front}# {path}\n\n```{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text().rstrip()}\n```\n"


def mathml(latex: str, display: str) -> str:
    """Return a formula as MathML, which browsers draw without a script, safe from Markdown's own marks."""
    from latex2mathml.converter import convert  # of the extra `site`: the navigation is checked without it

    made = convert(latex.strip(), display=display)
    if "\\" in made:
        raise ValueError(f"docs: expected a formula of commands that latex2mathml knows, found {latex.strip()!r}")
    for mark in "*_`":
        made = made.replace(mark, f"&#{ord(mark)};")
    return f'<div class="formula" tabindex="0">{made}</div>' if display == "block" else f"<span>{made}</span>"
