"""Workers that write a teacher's logits together, on this machine or on a Ray cluster."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prepkd.engines.engine import ray_engine, share_of
from prepkd.engines.task import Task, current_project
from prepkd.errors import InputError
from prepkd.project.params import Params, from_plain, plain
from prepkd.provenance.teacher_files import load_teacher
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import progress, say
from prepkd.stages._dataset import cached_views
from prepkd.stages._progress import StoreProgress
from prepkd.stages._project import store_url
from prepkd.stages._teachers import teacher_files
from prepkd.store.destination import Destination
from prepkd.store.write_store import WriteResult
from prepkd.teacher.caching import cache_logits
from rich.progress import Progress

Tell = Callable[[tuple[str, Any]], None]  # gets a kind of event, and its value


def write_logits(params: Params, name: str, to: Destination) -> WriteResult:
    """Write a teacher's logits, or join the processes that are writing them."""
    dataset = cached_views(params)
    teacher = load_teacher(name, teacher_files(params, name), dataset)
    return cache_logits(teacher, dataset, params.cache, to)


def join_writers(settings: dict[str, Any], name: str, may_replace: bool, tell: Tell) -> WriteResult:
    """Write a teacher's logits together with other processes, and report this process's chunks. Runs as a Ray task."""
    params = from_plain(settings)
    to = Destination(
        store_url(params, name),
        scratch_root(),
        on_wait=lambda line: tell(("note", line)),
        replace=may_replace,
        on_start=lambda work: tell(
            ("start", (work.describe(), work.warning, work.chunks, work.pending, work.layout.bytes))
        ),
        on_written=lambda: tell(("chunk", None)),
    )
    return write_logits(params, name, to)


def write_logits_on_ray(
    params: Params, name: str, may_replace: bool, workers: int | None, num_gpus: float | None
) -> WriteResult:
    """Write a teacher's logits in actors of a Ray cluster; `workers` defaults to the number that the cluster holds."""
    written = 0

    def count(event: tuple[str, Any]) -> None:
        nonlocal written
        written += event[0] == "chunk"
        shown(event)

    with ray_engine() as ray, progress() as bar:
        shown = WorkerProgress(bar, name)
        share, threads = share_of(ray, params.threads, num_gpus, say)
        number = workers or max(1, ray.room(share))
        say(f"{number} workers, each with {share}")
        task = Task(f"logits of {name}", join_writers, (plain(params) | {"threads": threads}, name, may_replace))
        outcome = ray.run_together(task, current_project(), number, share, count, say)
    if outcome.failure is not None:
        raise InputError(outcome.failure)
    found: WriteResult = outcome.value
    return found if found.chunks is None else replace(found, chunks=written)


class WorkerProgress:
    """Shows the events of all workers: notes, and progress by chunk."""

    def __init__(self, bar: Progress, name: str) -> None:
        self.progress, self.started = StoreProgress(bar, f"logits of {name}"), False

    def __call__(self, event: tuple[str, Any]) -> None:
        """Show an event. Every worker reports its start; only the first report is shown, and sets the number of chunks."""
        kind, value = event
        if kind == "note":
            say(value)
        elif kind == "chunk":
            self.progress.chunk()
        elif not self.started:
            self.started = True
            described, doubt, *counts = value
            say(described)
            if doubt:
                say(f"warning: {doubt}")
            self.progress.start(*counts)
