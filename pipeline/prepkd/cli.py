"""The `prepkd` command line: a table of commands; each module is imported when its command is called."""

import gc
import io
import os
import signal
import sys
import time
import traceback
import warnings
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import prepkd
from prepkd.display.console import TextConsole
from prepkd.display.text import printable
from prepkd.errors import InputError
from prepkd.runtime.machine_faults import explained
from prepkd.runtime.rank import NotMainProcess, rank_and_world_size
from prepkd.runtime.signals import Interrupted, interrupt_on_signals

PIPELINE, STORE, MODEL, PROJECT = "The pipeline, in order", "A logit store", "A trained model", "A project"


class Command(NamedTuple):
    """A command: its module in `prepkd.stages`, with a function of the same name, its help line and its help panel."""

    module: str
    help: str
    panel: str


# The help is the first line of the function's docstring: `prepkd --help` shows it without importing the module.
COMMANDS = {
    "prepare": Command(
        "prepare",
        "Read the raw images, from disk or a URL, and write `data/<dataset>.h5`, which everything else reads.",
        PIPELINE,
    ),
    "train-teacher": Command(
        "train_teacher",
        "Train a teacher; writes its weights, its card and its test logits to `models/teachers/NAME/`.",
        PIPELINE,
    ),
    "train-generation": Command(
        "train_generation",
        "Train a teacher that learns from another teacher's cached logits; writes `models/teachers/NAME/`.",
        PIPELINE,
    ),
    "cache-logits": Command(
        "cache_logits",
        "Write the teacher's logits for every view of every training sample to `data/logits/NAME.zarr`.",
        PIPELINE,
    ),
    "cache-features": Command(
        "cache_features",
        "Write the features that `cache.features` lists, for every view of every training sample, to `data/features/NAME/`.",
        PIPELINE,
    ),
    "gather": Command(
        "gather",
        "Check that the teachers' stores have one view plan; writes their identities to `data/lesson.json`.",
        PIPELINE,
    ),
    "distill": Command(
        "distill",
        "Train students from the teacher's cached logits, one per seed; writes `models/student/seed<k>/`.",
        PIPELINE,
    ),
    "evaluate": Command(
        "evaluate",
        "Measure the students on the test set; writes `results/metrics.json`, `details.json` and `plots/`.",
        PIPELINE,
    ),
    "compare": Command(
        "compare",
        "Compare methods: `--run` trains one of them over all seeds; without it `results/compare/` gets tables and a picture.",
        PIPELINE,
    ),
    "report": Command(
        "report",
        "Make one page of all results, `results/report.html`: it opens offline, on a phone, in print.",
        PIPELINE,
    ),
    "verify": Command(
        "verify",
        "Ask the live teacher a random sample of a store again: PASS (exit code 0), FAIL or WITHHELD (1).",
        STORE,
    ),
    "inspect": Command(
        "inspect",
        "Show a logit store's description, origin and statistics: tables, and `results/inspect/NAME.png`.",
        STORE,
    ),
    "fetch-views": Command(
        "fetch_views",
        "Copy a store, or some of its views, to `data/logits/`: a partial copy can train on the views that it holds.",
        STORE,
    ),
    "import": Command(
        "import_logits", "Make a store of logits that another program cached; writes `data/logits/NAME.zarr`.", STORE
    ),
    "export": Command(
        "export",
        "Export a student or teacher as ONNX, torch.export and safetensors to `exports/NAME/`, each checked on the test set.",
        MODEL,
    ),
    "predict": Command(
        "predict", "Classify image files of any size with a trained model: class names and probabilities.", MODEL
    ),
    "init": Command(
        "init", "Make a new project for a data set, a teacher and a student; `dvc repro` runs there.", PROJECT
    ),
    "status": Command(
        "status",
        "Show which stages are done, out of date or missing, where results are, and what to run next.",
        PROJECT,
    ),
    "doctor": Command(
        "doctor",
        "Check what prepkd needs of this machine and this project; each fault comes with its remedy.",
        PROJECT,
    ),
    "methods": Command(
        "methods",
        "List the terms of a method: slot, meaning, needs, settings with their defaults, source.",
        PROJECT,
    ),
    "plan": Command(
        "plan",
        "Say what caching and training will cost: disk, teacher hours, memory, reading, and when the cache has paid for itself.",
        PROJECT,
    ),
    "schema": Command(
        "schema", "Print the JSON schema of params.yaml, with which editors complete and check it.", PROJECT
    ),
}

# Commands that all processes run together under torchrun.
SHARED = {"train-teacher", "train-generation", "cache-logits", "cache-features", "distill", "compare"}
ERROR_DELAY = 5  # seconds

# The exit code of a fault of the program (EX_SOFTWARE of sysexits.h). Not Python's own 1: `verify` says FAIL with it.
FAULT = 70

# A message is cut to two parts of this many characters.
HALF = 1000


class LazyCommand(TyperCommand):
    """A command that imports its module at the first use of its function, options or long help."""

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(name, short_help=command.help, rich_help_panel=command.panel, rich_markup_mode="markdown")
        self.module = command.module
        del self.callback, self.params, self.help  # left to __getattr__

    def __getattr__(self, name: str) -> Any:
        """Import the module and copy callback, options and help from the command that Typer builds."""
        if name not in ("callback", "params", "help"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(getattr(import_module(f"prepkd.stages.{self.module}"), self.module))
        loaded = typer.main.get_command(alone)
        self.callback, self.params, self.help = loaded.callback, loaded.params, loaded.help
        return getattr(self, name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; only the first process runs a command that is not in `SHARED`."""
        return None if rank_and_world_size()[0] and self.name not in SHARED else super().invoke(ctx)


class Commands(TyperGroup):
    """All commands; reports errors that the user can fix in one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": {name: LazyCommand(name, one) for name, one in COMMANDS.items()}})

    def invoke(self, ctx: Any) -> Any:  # Typer's copy of click.Context is private
        """Run a command. Bad input, exhausted machine: one line, exit code 2. A signal: how to resume, code 128 + its number."""
        errors = TextConsole(stderr=True, soft_wrap=True)
        try:
            return super().invoke(ctx)
        except NotMainProcess:
            return None
        except InputError as error:
            delay_unless_main_process()
            show_trace(errors)
            for line in ("error: " + error.lines[0], *error.lines[1:]):
                errors.print(shortened(line))
            raise typer.Exit(2) from None
        except SystemExit as ended:
            # Raised by a user's model or a library: its exit code could report unfinished work as success.
            errors.print(f"error: sys.exit({ended.code!r}) was called by code that prepkd runs; the work is not done")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interruption:
            number = interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            errors.print(
                f"interrupted{by}: finished chunks, epochs and seeds are kept; run the same command again to continue"
            )
            raise typer.Exit(128 + number) from None
        except BaseException as error:
            delay_unless_main_process()
            if (fault := explained(error)) is None:  # a bug
                if isinstance(error, EOFError):  # Typer would mistake it for Ctrl-D: "Aborted!", exit code 1
                    raise RuntimeError("a file or stream ended too early") from error
                raise
            show_trace(errors)
            errors.print(shortened(f"error: {fault}"))
            raise typer.Exit(2) from None


def delay_unless_main_process() -> None:
    """Wait, except in the first process: it reports an error that all share, and the launcher then ends the others."""
    if os.environ.get("RANK", "0") != "0":
        try:
            time.sleep(ERROR_DELAY)
        except Interrupted as ended:
            raise typer.Exit(128 + ended.number) from None


def show_trace(errors: TextConsole) -> None:
    """With PREPKD_DEBUG=1, print the traceback of the current error above its one-line message."""
    if os.environ.get("PREPKD_DEBUG", "") not in ("", "0"):
        errors.print(traceback.format_exc())


def shortened(line: str) -> str:
    """Escape line breaks, and cut the middle out of a long line: a hostile file may have filled it."""
    line = printable(line)
    return line if len(line) <= 2 * HALF else f"{line[:HALF]} ... {line[-HALF:]}"


app = typer.Typer(
    name="prepkd",
    cls=Commands,
    help="Knowledge distillation for image classifiers: cache a teacher's logits once, train any number of students.\n\n"
    "All settings live in params.yaml; `dvc repro` runs what is out of date.",
    context_settings={"help_option_names": ["-h", "--help"]},
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


def main() -> None:
    """Run the command line; a fault of the machine is one line and exit code 2, any other error a traceback and code 70."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or file in ASCII or Latin-1 gets escapes, not an exception.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pillow's warnings of large images and damaged EXIF data name no file; prepkd has a limit and a rule for both.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    interrupt_on_signals()
    os.environ["MPLBACKEND"] = "agg"  # prepkd only writes pictures; an unknown backend would end matplotlib's import
    # Python collects garbage after every 700 new objects. Imports create hundreds of thousands of permanent objects, and
    # repeated scans of them slow a stage's start considerably. A training loop's garbage is still collected every few steps.
    gc.set_threshold(5_000, 50, 100)
    try:
        app()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a Rust library's panic and GeneratorExit are not Exceptions
        if (fault := explained(error)) is not None:  # of `--help` or `--version`, which print before `Commands.invoke`
            TextConsole(stderr=True, soft_wrap=True).print(shortened(f"error: {fault}"))
            sys.exit(2)
        traceback.print_exc()
        sys.exit(FAULT)
