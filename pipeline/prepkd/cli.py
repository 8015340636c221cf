"""The `prepkd` command: one sub-command a stage."""

import sys
from typing import Annotated

import click
import typer
from rich.console import Console

import prepkd
from prepkd.errors import InputError
from prepkd.stages import cache_logits, compare, distill, evaluate, prepare, train_teacher

app = typer.Typer(
    name="prepkd",
    help="Knowledge distillation with better supervision, from a teacher that is paid for once.\n\n"
    "The stages, in order: prepare, train-teacher, cache-logits, distill, evaluate; compare makes the table of methods. "
    "All settings live in params.yaml; `dvc repro` runs what is out of date.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"prepkd {prepkd.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command("prepare")(prepare.prepare)
app.command("train-teacher")(train_teacher.train_teacher)
app.command("cache-logits")(cache_logits.cache_logits)
app.command("distill")(distill.distill)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)


def main() -> None:
    """Run the command line; bad input is one line and exit code 2, an interruption says how to go on and exits 130."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        # Click's own handling of Ctrl-C would hide where the work stands.
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except InputError as error:
        errors.print(f"error: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        errors.print("interrupted: finished chunks, epochs and seeds are kept; run the same command again to go on")
        sys.exit(130)
