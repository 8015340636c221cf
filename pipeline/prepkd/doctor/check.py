"""One check: what was looked at, what was found, and the remedy."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from prepkd.display.tables import cell, plain_table


class CheckVerdict(StrEnum):
    """Whether prepkd works: without restriction, with one, or not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and, unless all is well, the remedy."""

    name: str
    verdict: CheckVerdict
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def ok(name: str, found: str) -> Check:
    """A check that found nothing amiss."""
    return Check(name, CheckVerdict.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """A check that found a restriction."""
    return Check(name, CheckVerdict.WARNING, found, remedy)


def error(name: str, found: str, remedy: str) -> Check:
    """A check that found what makes prepkd fail."""
    return Check(name, CheckVerdict.ERROR, found, remedy)


STYLES = {CheckVerdict.OK: "green", CheckVerdict.WARNING: "yellow", CheckVerdict.ERROR: "red"}


def check_table(checks: Iterable[Check]) -> Iterator[RenderableType]:
    """One row per check, readable from 60 columns; a remedy stands below what was found."""
    table = plain_table()
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in checks:
        verdict = Text(str(one.verdict), style=STYLES[one.verdict])
        table.add_row(cell(one.name), verdict, cell(one.found, *([f"-> {one.remedy}"] if one.remedy else [])))
    yield table
