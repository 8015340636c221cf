"""methods: the terms of which methods are made, as a table."""

import json
from typing import Annotated

import typer
from prepkd.methods.catalogue import rows
from prepkd.runtime.console import TextConsole
from rich.table import Table


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the terms of a method: slot, meaning, settings with their defaults, source.

    A method is terms joined by `+`, at most one per slot and any number of feature terms: `ka-ps+dtd-flsw`, `ka-ps+dkd+at`.
    """
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows()], indent=2))
        return
    table = Table("term", "slot", "meaning", "settings, defaults", box=None, padding=(0, 2, 0, 0))
    for row in rows():
        settings = ", ".join(f"{key} {value}" for key, value in row.settings.items())
        table.add_row(row.name, row.slot, f"{row.summary} ({row.source})", settings)
    TextConsole().print(table)
