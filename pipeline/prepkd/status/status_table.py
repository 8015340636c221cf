"""A project's state as terminal tables, readable from 60 columns."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prepkd.display.tables import cell, pairs, plain_table, titled
from prepkd.status.state import PIPELINE, StageState, Status

STYLES = {StageState.DONE: "green", StageState.OUT_OF_DATE: "yellow", StageState.MISSING: "red"}


def status_tables(status: Status) -> Iterator[RenderableType]:
    """Yield one table per dvc.yaml with one row per stage, then the existing results, then the next commands."""
    counts = ", ".join(f"{status.count(state)} {state}" for state in StageState if status.count(state))
    files = {PIPELINE: stage_table()}
    for one in status.stages:
        table = files.setdefault(one.pipeline, stage_table())
        table.add_row(cell(one.name_in_pipeline), Text(str(one.state), style=STYLES[one.state]), cell(one.why))
    for file, table in files.items():
        yield from titled(f"Stages: {counts}" if file == PIPELINE else f"Stages of {file}", table)
    if status.results:
        yield from pairs("Results", status.results.items())
    yield from pairs("Next", [("", command) for command in status.next])


def stage_table() -> Table:
    """An empty table of stages."""
    table = plain_table()
    for name in ("stage", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("because", overflow="fold", style="dim")
    return table
