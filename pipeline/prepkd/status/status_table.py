"""A project's state as tables of a terminal, readable from 60 columns."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from prepkd.display.tables import cell, pairs, plain_table, titled
from prepkd.status.state import StageState, Status

STYLES = {StageState.DONE: "green", StageState.OUT_OF_DATE: "yellow", StageState.MISSING: "red"}


def status_tables(status: Status) -> Iterator[RenderableType]:
    """One row per stage, then the results that are there, then what comes next."""
    table = plain_table()
    for name in ("stage", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("because", overflow="fold", style="dim")
    for one in status.stages:
        table.add_row(cell(one.name), Text(str(one.state), style=STYLES[one.state]), cell(one.why))
    counts = ", ".join(f"{status.count(state)} {state}" for state in StageState if status.count(state))
    yield from titled(f"Stages: {counts}", table)
    if status.results:
        yield from pairs("Results", status.results.items())
    yield from pairs("Next", [("", command) for command in status.next])
