"""Output of commands: notes and progress on standard error, figures on standard output, as tables or as JSON."""

import json
from dataclasses import dataclass

import typer
from prepkd.display.console import TextConsole
from prepkd.errors import json_without_secrets
from prepkd.runtime.rank import rank_and_world_size
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOUD = ("warning:", "error:", "failed:")  # prefixes of the lines that --quiet still prints


@dataclass
class OutputOptions:
    """The options --json and --quiet of the running command."""

    json: bool = False
    quiet: bool = False


output_options = OutputOptions()
console = TextConsole(stderr=True, soft_wrap=True, quiet=rank_and_world_size()[0] > 0)  # only the first process prints


def say(line: str) -> None:
    """Print a line without markup; with --quiet only warnings and errors."""
    to = (
        TextConsole(stderr=True, soft_wrap=True)
        if output_options.quiet and line.startswith(LOUD) and not rank_and_world_size()[0]
        else console
    )
    to.print(line, markup=False)


def set_json(asked: bool) -> bool:
    """Store --json before the command runs."""
    output_options.json = asked
    return asked


def set_quiet(asked: bool) -> bool:
    """Store --quiet before the command runs."""
    output_options.quiet = asked
    console.quiet = asked or rank_and_world_size()[0] > 0
    return asked


def show(figures: object, *parts: RenderableType) -> None:
    """Print a command's figures on standard output: one JSON value with --json, else the tables unless --quiet is set.

    Of several processes only the first prints.
    """
    if rank_and_world_size()[0]:
        return
    if output_options.json:
        print_json(figures)
    elif not output_options.quiet:
        for part in parts:
            TextConsole().print(part, soft_wrap=isinstance(part, str))


def progress() -> Progress:
    """Make a progress bar; below 100 columns it shows only the share and the note."""
    wide = [BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()] if console.width >= 100 else []
    return Progress(
        TextColumn("{task.description}", markup=False),
        TaskProgressColumn(),
        *wide,
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        # DVC's library keeps a wrapper of the current standard output and writes to it at exit.
        redirect_stdout=False,
        disable=not console.is_terminal or console.quiet,
    )


def advance(bar: Progress, task: TaskID, note: str = "") -> None:
    """Advance a task by one step; without a terminal (logs, CI) print one line per fifth of the total instead."""
    bar.update(task, advance=1, note=note)
    state = bar.tasks[task]
    total = state.total or 1
    if not console.is_terminal and 5 * state.completed // total > 5 * (state.completed - 1) // total:
        console.print(f"{state.description}: {state.completed:.0f}/{total:.0f} {note}".rstrip())


def print_json(value: object) -> None:
    """Print one indented JSON value."""
    typer.echo(json.dumps(json_without_secrets(value), sort_keys=True, indent=2, allow_nan=False))
