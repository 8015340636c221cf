"""One check: its name, verdict, finding and remedy."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from prepkd.display.tables import cell, plain_table


class CheckVerdict(StrEnum):
    """Whether prepkd works: fully, with a restriction, or not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """The name of the check, its verdict, the finding and, unless the verdict is OK, the remedy."""

    name: str
    verdict: CheckVerdict
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def ok(name: str, found: str) -> Check:
    """A check that found no problem."""
    return Check(name, CheckVerdict.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """A check that found a restriction."""
    return Check(name, CheckVerdict.WARNING, found, remedy)


def error(name: str, found: str, remedy: str) -> Check:
    """A check that found a problem with which prepkd fails."""
    return Check(name, CheckVerdict.ERROR, found, remedy)


STYLES = {CheckVerdict.OK: "green", CheckVerdict.WARNING: "yellow", CheckVerdict.ERROR: "red"}


def check_table(checks: Iterable[Check]) -> Iterator[RenderableType]:
    """One row per check, readable from 60 columns; the remedy is below the finding."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in checks:
        verdict = Text(str(one.verdict), style=STYLES[one.verdict])
        table.add_row(cell(one.name), verdict, cell(one.found, *([f"-> {one.remedy}"] if one.remedy else [])))
    yield table
