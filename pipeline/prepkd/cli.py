"""The `prepkd` command: one sub-command a stage, and those for a logit store."""

import errno
import gc
from collections.abc import Callable
from functools import wraps
from typing import Annotated

import typer
from rich.console import Console

import prepkd
from prepkd.errors import InputError
from prepkd.stages import (
    cache_logits,
    compare,
    distill,
    evaluate,
    fetch_views,
    gather,
    import_logits,
    init,
    inspect,
    prepare,
    schema,
    train_teacher,
    verify,
)

app = typer.Typer(
    name="prepkd",
    help="Knowledge distillation with better supervision, from a teacher that is paid for once.\n\n"
    "All settings live in params.yaml; `dvc repro` runs what is out of date.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

# What the person at the machine can mend; any other OSError is a fault of the program, and keeps its traceback.
REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "make it writable",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EIO: "look at the disk",
    errno.EEXIST: "move what is in the way",
    errno.ENOTDIR: "move what is in the way",
    errno.EISDIR: "move what is in the way",
}


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
    """Bad input, a full or read-only disk: one line, exit code 2. An interruption says how to go on and exits with 130."""

    @wraps(function)
    def guarded(**options: object) -> None:
        errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        try:
            function(**options)
        except InputError as error:
            errors.print(f"error: {error}")
            raise typer.Exit(2) from None
        except OSError as error:
            if error.errno not in REMEDIES:
                raise
            # A copy names its source first; HDF5 puts everything, line breaks included, into the message.
            file, why = error.filename2 or error.filename, " ".join(str(error.strerror).split())
            remedy = f"finished work is kept: {REMEDIES[error.errno]}, then run the same command again"
            errors.print(f"error: {file}: {why}; {remedy}" if file else f"error: {why}; {remedy}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            errors.print(
                "interrupted: what is finished (chunks, epochs, seeds) is kept; run the same command again to go on"
            )
            raise typer.Exit(130) from None

    return guarded


STAGES: dict[str, Callable[..., None]] = {
    "prepare": prepare.prepare,
    "train-teacher": train_teacher.train_teacher,
    "cache-logits": cache_logits.cache_logits,
    "gather": gather.gather,
    "distill": distill.distill,
    "evaluate": evaluate.evaluate,
    "compare": compare.compare,
}
TOOLS: dict[str, Callable[..., None]] = {
    "verify": verify.verify,
    "inspect": inspect.inspect,
    "fetch-views": fetch_views.fetch_views,
    "import": import_logits.import_logits,
}
PROJECT: dict[str, Callable[..., None]] = {"init": init.init, "schema": schema.schema}
for panel, commands in {"The pipeline, in order": STAGES, "A logit store": TOOLS, "A project": PROJECT}.items():
    for name, function in commands.items():
        app.command(name, rich_help_panel=panel)(_stage(function))


def main() -> None:
    """Run the command line."""
    # Python looks for garbage whenever 700 objects are new. Imports make hundreds of thousands that stay, and looking at all of
    # these again and again is a good part of a stage's start. Garbage of a training loop is still found every few steps.
    gc.set_threshold(5_000, 50, 100)
    app()
