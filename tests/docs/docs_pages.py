"""The commands of docs/ as tests run them: what a reader would type, in order, and in which folder.

A page with `bash` or `python` blocks states near its top where they run:

    <!-- commands: clone -->                    a fresh clone, with settings that take seconds, committed
    <!-- commands: clone, after dvc repro -->   the same, after `dvc repro`
    <!-- commands: init ARGUMENTS -->           the project that `prepkd init ARGUMENTS` makes, with such settings
    <!-- commands: empty -->                    an empty folder
    <!-- commands: none, because REASON -->     not run here; a test file named in the reason must name the page

All blocks of a page run in one shell, so that `cd` persists. Further comments, invisible to readers:

    <!-- run: COMMANDS -->      run as well: prepares the next block, or checks the last one
    <!-- not run: REASON -->    the next block is not run
    <!-- settings -->           the next block, of YAML, is merged into params.yaml
    <!-- output -->             the next block is the last one's output: each line occurs, except for numbers and spaces
"""

import re
from dataclasses import dataclass
from pathlib import Path

from commands import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
PART = re.compile(
    r"^```(?P<language>\w*)\n(?P<block>.*?)^```$|^<!-- (?P<mark>run|not run|settings|output)(?::\s)?(?P<said>.*?)-->$",
    re.M | re.S,
)


@dataclass
class Step:
    """A visible or hidden block of a page."""

    language: str
    text: str
    line: int
    output: str = ""


def name(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def place(page: Path) -> str | None:
    """Return the folder in which the page's commands run, or None."""
    said = re.findall(r"^<!-- commands: (.+?) -->$", page.read_text(), re.M)
    assert len(said) <= 1, f"{name(page)} has {len(said)} comments `commands:`; expected one"
    return said[0] if said else None


def steps(page: Path) -> list[Step]:
    """Return the blocks that run, in order."""
    text, mark, found = page.read_text(), None, []
    for part in PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["mark"] == "run":
            found.append(Step("bash", part["said"], line))
        elif part["language"] in ("bash", "python", "pycon") and mark != "not run":
            found.append(Step(part["language"], part["block"], line))
        elif part["language"] == "yaml" and mark == "settings":
            found.append(Step("bash", f"settings <<'END_OF_SETTINGS'\n{part['block']}END_OF_SETTINGS\n", line))
        elif part["language"] and mark == "output":
            found[-1].output = part["block"]
        mark = part["mark"]
    return found
