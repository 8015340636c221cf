"""Output of commands: notes and progress on standard error, JSON on standard output."""

import json

import typer
from prepkd.display.console import TextConsole
from prepkd.errors import json_without_secrets
from prepkd.runtime.launched import launched
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = TextConsole(stderr=True, soft_wrap=True, quiet=launched()[0] > 0)  # the first process speaks for all


def say(line: str) -> None:
    """Print a note as it is, without markup."""
    console.print(line, markup=False)


def progress() -> Progress:
    """Make a progress bar; on a narrow terminal it shows only the count and the note."""
    wide = [BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()] if console.width >= 100 else []
    return Progress(
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        *wide,
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


def advance(bar: Progress, task: TaskID, note: str = "") -> None:
    """Advance a task by one step; without a terminal (logs, CI) print one line per fifth of the total instead."""
    bar.update(task, advance=1, note=note)
    state = bar.tasks[task]
    total = state.total or 1
    if not console.is_terminal and 5 * state.completed // total > 5 * (state.completed - 1) // total:
        console.print(f"{state.description}: {state.completed:.0f}/{total:.0f} {note}".rstrip())


def epoch_note(row: dict[str, float]) -> str:
    """Sum up an epoch in one line."""
    parts = [f"loss {row['train/loss']:.3f}", f"train {row['train/top1']:.1%}"]
    parts += [f"{name} {row[f'{name}/top1']:.1%}" for name in ("val", "test") if f"{name}/top1" in row]
    return ", ".join(parts)


def print_json(value: object) -> None:
    """Print one indented JSON object."""
    typer.echo(json.dumps(json_without_secrets(value), sort_keys=True, indent=2, allow_nan=False))
