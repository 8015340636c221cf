"""docs/reference/params.md and cli.md are up to date with docs/generate.py, and every setting has a description."""

import importlib.util
import re
from typing import Any

import pytest
from docs_pages import ROOT
from prepkd.project.schema import json_schema

spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
assert spec and spec.loader
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_pages_are_up_to_date(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # the pages must not depend on the terminal's width
    committed = (ROOT / "docs/reference" / page).read_text()
    assert committed == generate.PAGES[page](), f"docs/reference/{page} is out of date: run `make docs`"


def test_a_count_of_views_is_no_choice_among_them() -> None:
    """In every command `--views` takes a count, `--select` chooses views and `--only` an entry."""
    page, takes = (ROOT / "docs/reference/cli.md").read_text(), dict[str, set[str]]()
    for name, value in re.findall(r"^\| `(?:-\w, )?(--[a-z0-9-]+)(?: ([^`]+))?` \|", page, re.M):
        takes.setdefault(name, set()).add(value)
    assert takes["--views"] == {"COUNT"} and takes["--select"] == {"VIEWS"}
    assert takes["--only"] == {"ENTRY"}


def test_a_method_is_a_file_an_entry_and_a_public_loss() -> None:
    """CONTRIBUTING's diff of a new method touches three files and has at most the stated number of lines."""
    change = generate.term_change("dkd")
    assert list(change) == [f"pipeline/prepkd/{name}.py" for name in ("methods/dkd", "losses", "methods/terms")]
    assert sum(map(len, change.values())) <= 60 and "`dkd`, 60 lines" in (ROOT / "CONTRIBUTING.md").read_text()


def test_every_setting_has_a_description() -> None:
    def silent(section: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, entry in section["properties"].items():
            inner = generate.sections(entry, schema)
            found += [f"{path}{key}"] if not inner and not entry.get("description") else []
            found += [name for one in inner for name in silent(one, f"{path}{key}.")]
        return found

    schema = json_schema()
    assert not silent(schema, ""), "expected a comment behind the key in params.yaml, or Field(description=)"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 2**63}, "integer >= 0, < 2^63"),
        ({"anyOf": [{"const": "all"}, {"type": "number", "exclusiveMinimum": 0.5}]}, "`all` or number > 0.5"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of `a`, `b`"),
        ({"anyOf": [{"enum": list(range(13))}, {"type": "string"}]}, "`0`, ..., `12` or text"),
    ],
)
def test_types_in_words(entry: dict[str, Any], words: str) -> None:
    assert generate.allowed(entry) == words


def test_a_cell_escapes_tags() -> None:
    assert generate.cell("data/<name>.h5 or `<k>` | x") == "data/&lt;name>.h5 or `<k>` \\| x"
