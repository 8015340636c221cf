"""Start tasks: several at once in processes of this machine, or as many as fit on a Ray cluster."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any

import torch

from prepkd.engines import local
from prepkd.engines.task import Outcome, Task, current_project
from prepkd.errors import InputError
from prepkd.runtime.processors import processors
from prepkd.runtime.rank import is_launched

Say = Callable[[str], None]
Start = Callable[[Sequence[Task]], Iterator[Outcome]]


class Engine(StrEnum):
    """The engine that runs a command's tasks."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class EngineOptions:
    """Where tasks run: `jobs` at once on this machine, or on a Ray cluster with `num_gpus` GPUs per task."""

    engine: Engine
    jobs: int | None
    num_gpus: float | None


def refuse_without_ray(engine: Engine, **options: object) -> None:
    """Raise InputError for Ray's options with another engine."""
    if engine is not Engine.RAY and (given := [name for name, value in options.items() if value is not None]):
        raise InputError(f"--{given[0].replace('_', '-')} is for Ray; add --engine ray")


@contextlib.contextmanager
def task_starter(where: EngineOptions, threads: int | None, say: Say) -> Iterator[tuple[int | None, Start]]:
    """Yield the number of threads per task, and a function that starts tasks.

    `threads` None keeps torch's default. Raises InputError for options that exclude one another, and under torchrun.
    """
    if where.engine is Engine.RAY:
        if where.jobs is not None:
            raise InputError(
                "--jobs is for this machine; on Ray, the nodes, --num-gpus and threads decide how many tasks run"
            )
        with ray_engine() as ray:
            share, theirs = share_of(ray, threads, where.num_gpus, say)
            yield theirs, lambda tasks: ray.run(tasks, current_project(), share)
        return
    if is_launched():
        raise InputError("--jobs starts processes itself; run the command without torchrun")
    count, each = where.jobs or 1, threads or torch.get_num_threads()
    if count > 1 and count * each > processors():
        fewer = max(1, processors() // count)
        remedy = f"`threads: {fewer}` is faster, and changes the last bits of results"
        if each == fewer:
            remedy = f"`--jobs {processors()}` is enough"
        say(
            f"warning: {count} jobs of {each} thread{'s' if each > 1 else ''} share {processors()} "
            f"processor{'s' if processors() > 1 else ''}; {remedy}"
        )
    yield threads, lambda tasks: local.run(tasks, current_project(), count, say)


@contextlib.contextmanager
def ray_engine() -> Iterator[ModuleType]:
    """Connect to a Ray cluster, and yield the module `on_ray`, which runs tasks there.

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


def share_of(ray: ModuleType, threads: int | None, num_gpus: float | None, say: Say) -> tuple[Any, int | None]:
    """The resources that Ray reserves per task on a connected cluster, and the threads per task; raises InputError.

    A task on CPUs has as many threads as the same command on this machine: the last bits of its results depend on them.
    """
    gpus = float(ray.has_gpus()) if num_gpus is None else num_gpus
    if gpus > 1 and gpus % 1:
        raise InputError(f"--num-gpus is {gpus:g}; expected a whole number, or a fraction of one GPU")
    on_cpus = threads or torch.get_num_threads()
    share = ray.Share(cpus=(threads or 1) if gpus else on_cpus, gpus=gpus)
    if not ray.room(share):
        say(f"warning: no node of the cluster has {share}; waiting for one")
    return share, threads if gpus else on_cpus
