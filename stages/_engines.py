"""Where tasks run: the options of commands, and what a Ray cluster gives each task."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer
from prepkd.engines.task import Project
from prepkd.errors import InputError
from prepkd.project.params import Params, from_plain, plain
from prepkd.runtime.launched import is_launched
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import say


class Engine(StrEnum):
    """Where the work of a command is done."""

    LOCAL = "local"
    RAY = "ray"


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


def refuse_without_ray(engine: Engine, **options: object) -> None:
    """Raise InputError for options of Ray with another engine."""
    if engine is not Engine.RAY and (given := [name for name, value in options.items() if value is not None]):
        raise InputError(f"--{given[0].replace('_', '-')} is for Ray; add --engine ray")


def refuse_launcher(option: str) -> None:
    """Raise InputError if torchrun runs this command: each of its processes would start all tasks."""
    if is_launched():
        raise InputError(f"{option} starts processes itself; run the command without torchrun")


@contextlib.contextmanager
def ray_engine() -> Iterator[ModuleType]:
    """Connect to a Ray cluster, and yield what runs tasks there.

    Raises InputError without Ray or a cluster, and under torchrun.
    """
    if is_launched():
        raise InputError(
            "--engine ray: torchrun runs this command, and Ray would start it once per process; leave one out"
        )
    try:
        from prepkd.engines import on_ray
    except ModuleNotFoundError as missing:
        if missing.name != "ray":
            raise
        raise InputError("--engine ray: Ray is not installed; pip install 'prepkd[ray]'") from None
    with on_ray.connected():
        yield on_ray


def here() -> Project:
    """This project's folders, as other processes find them."""
    return Project(Path.cwd(), scratch_root().absolute())


def threads(params: Params) -> int:
    """The threads that a command computes on here: `threads`, or torch's own choice."""
    return params.threads or torch.get_num_threads()


def share_of(ray: ModuleType, params: Params, num_gpus: float | None) -> tuple[Any, Params]:
    """What Ray sets aside for each task of a connected cluster, and the settings of the tasks.

    A task on CPUs has as many threads as the same command here, on which the last bits of its results depend.
    """
    gpus = float(ray.has_gpus()) if num_gpus is None else num_gpus
    if gpus > 1 and gpus % 1:
        raise InputError(f"--num-gpus is {gpus:g}; expected a whole number, or a fraction of one GPU")
    share = ray.Share(cpus=(params.threads or 1) if gpus else threads(params), gpus=gpus)
    if not ray.room(share):
        say(f"warning: no node of the cluster has {share}; waiting for one")
    return share, params if gpus else from_plain(plain(params) | {"threads": threads(params)})
