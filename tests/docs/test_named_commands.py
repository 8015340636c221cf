"""Commands and options named in indented blocks and sentences, which no test runs, exist."""

import re
from pathlib import Path

import docs_pages
import pytest
import typer
from commands import ROOT
from docs_pages import PAGES
from prepkd.cli import app

ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]
CALL = re.compile(r"(?<![\w/.-])prepkd (?P<name>[a-z][a-z-]+)(?P<rest>[^`|&;#)\n]*)")


def unknown(text: str) -> list[str]:
    """Return the commands and options of a page's code that do not exist."""
    found = []
    for line in text.splitlines():
        for call in CALL.finditer(line):
            if not line.startswith("    ") and line[: call.start()].count("`") % 2 == 0:
                continue  # the word `prepkd` in a sentence
            if (command := COMMANDS.get(call["name"])) is None:
                found.append(f"prepkd {call['name']}")
                continue
            known = {"--help"}.union(*([*one.opts, *one.secondary_opts] for one in command.params))
            given = re.findall(r"(?<=\s)--?[a-zA-Z][\w-]*", call["rest"])
            found += [f"prepkd {call['name']} {option}" for option in given if option not in known]
    return found


@pytest.mark.parametrize("page", ALL, ids=docs_pages.name)
def test_named_commands_and_options_exist(page: Path) -> None:
    assert unknown(page.read_text()) == []


def test_an_unknown_command_is_found() -> None:
    text = "    prepkd plant\nIn prepkd files are, `prepkd plan --views 3`, `prepkd plan --veiws 3 -X`.\n    prepkd plan --help\n"
    assert unknown(text) == ["prepkd plant", "prepkd plan --veiws", "prepkd plan -X"]
