"""Options shared by the commands, and reading of the settings."""

import os
from pathlib import Path
from typing import Annotated

import typer
from prepkd.engines.engine import Engine
from prepkd.errors import InputError
from prepkd.project.params import Params, load_params
from prepkd.stages._console import set_json, set_quiet

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.", show_default=True)]
Overrides = Annotated[
    list[str],
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="Override a setting, such as `-S threads=2`; repeatable."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace finished results of other settings; not needed under `dvc repro`.")
]
EngineOption = Annotated[
    Engine,
    typer.Option("--engine", help="Where to compute: here, or on a Ray cluster (RAY_ADDRESS, or this machine's)."),
]
NumGpus = Annotated[
    float | None,
    typer.Option(
        "--num-gpus", min=0, help="With --engine ray: GPUs per task, such as 0.5; else 1 if the cluster has any."
    ),
]

AsJson = Annotated[
    bool, typer.Option("--json", callback=set_json, help="Print the figures as one JSON value, nothing else on stdout.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=set_quiet, help="Print only warnings, errors and the output of --json."),
]
# Of a command without --json.
QuietAlone = Annotated[bool, typer.Option("--quiet", "-q", callback=set_quiet, help="Print only warnings and errors.")]


def read_params(path: Path, overrides: list[str], **options: object) -> Params:
    """Read and validate the settings; command-line options (`distill__method="kd"`) override --set and the file."""
    given = [f"{key.replace('__', '.')}={value}" for key, value in options.items() if value is not None]
    return load_params(path, [*overrides, *given])


def known_teacher(params: Params, name: str) -> str:
    """Return the name if it is a key of `teachers` or `generations`; raises InputError."""
    if name not in params.all_teachers:
        raise InputError(f"teacher is {name!r}; {params.expected_teachers}")
    return name


def may_replace(asked: bool) -> bool:
    """Whether finished results of other settings may be replaced: with --replace, and always in a stage run by DVC.

    DVC caches the outputs of its stages and decides which are out of date. It sets DVC_STAGE.
    """
    return asked or "DVC_STAGE" in os.environ
