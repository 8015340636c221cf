"""The `prepkd` command: one sub-command a stage."""

from collections.abc import Callable
from functools import wraps
from typing import Annotated

import typer
from rich.console import Console

import prepkd
from prepkd.errors import InputError
from prepkd.stages import cache_logits, compare, distill, evaluate, fetch_views, prepare, train_teacher

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


def _stage(function: Callable[..., None]) -> Callable[..., None]:
    """Bad input is one line and exit code 2; an interruption says how to go on and exits with 130."""

    @wraps(function)
    def guarded(**options: object) -> None:
        errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        try:
            function(**options)
        except InputError as error:
            errors.print(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            errors.print("interrupted: finished chunks, epochs and seeds are kept; run the same command again to go on")
            raise typer.Exit(130) from None

    return guarded


STAGES: dict[str, Callable[..., None]] = {
    "prepare": prepare.prepare,
    "train-teacher": train_teacher.train_teacher,
    "cache-logits": cache_logits.cache_logits,
    "fetch-views": fetch_views.fetch_views,
    "distill": distill.distill,
    "evaluate": evaluate.evaluate,
    "compare": compare.compare,
}
for name, function in STAGES.items():
    app.command(name)(_stage(function))


def main() -> None:
    """Run the command line."""
    app()
