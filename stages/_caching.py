"""Caching as a task: one of the workers that write a teacher's logits, here or on a Ray cluster."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prepkd.engines.task import Task
from prepkd.errors import InputError
from prepkd.project.params import Params, from_plain, plain
from prepkd.provenance.teacher_files import load_teacher
from prepkd.stages._console import advance, console, say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._engines import here, ray_engine, share_of
from prepkd.stages._project import scratch_root, store_url
from prepkd.stages._teachers import teacher_files
from prepkd.teacher import caching
from rich.progress import Progress, TaskID

Tell = Callable[[tuple[str, Any]], None]  # gets a kind of event, and its value


def join_writers(settings: dict[str, Any], name: str, may_replace: bool, tell: Tell) -> caching.Written:
    """Write a teacher's logits with others: the task."""
    return write_logits(from_plain(settings), name, may_replace, tell, own=True)


def write_logits(params: Params, name: str, may_replace: bool, tell: Tell, *, own: bool = False) -> caching.Written:
    """Write a teacher's logits, or join those who do; tell of every chunk, or of this process's `own`."""
    chunk, nothing = (lambda: tell(("chunk", None))), (lambda: None)
    dataset, inputs = read_dataset(params, params.cache.views, params.cache.seed, strong=params.augment_strong)
    teacher, card = load_teacher(teacher_files(params, name), dataset, inputs)
    return caching.cache_logits(
        teacher,
        card | {"name": name},
        dataset,
        inputs,
        params.cache,
        store_url(params, name),
        scratch_root(),
        replace=may_replace,
        on_wait=lambda line: tell(("note", line)),
        on_start=lambda work: tell(("start", (work.describe(), work.doubt, work.chunks, work.pending))),
        on_chunk=nothing if own else chunk,
        on_written=chunk if own else nothing,
    )


def write_logits_on_ray(
    params: Params, name: str, may_replace: bool, tell: Tell, workers: int | None, num_gpus: float | None
) -> caching.Written:
    """Write a teacher's logits in actors of a Ray cluster, by default as many as it holds."""
    written = 0

    def count(event: tuple[str, Any]) -> None:
        nonlocal written
        written += event[0] == "chunk"
        tell(event)

    with ray_engine() as ray:
        share, theirs = share_of(ray, params, num_gpus)
        number = workers or max(1, ray.room(share))
        say(f"{number} workers, each with {share}")
        task = Task(f"logits of {name}", join_writers, (plain(theirs), name, may_replace))
        outcome = ray.run_together(task, here(), number, share, count, say)
    if outcome.failure is not None:
        raise InputError(outcome.failure)
    found: caching.Written = outcome.value
    return found if found.chunks is None else replace(found, chunks=written)


class Shown:
    """Shows what workers tell."""

    def __init__(self, bar: Progress, name: str) -> None:
        self.bar, self.chunks = bar, 0
        self.task: TaskID = bar.add_task(f"logits of {name}", start=False, total=None, visible=False, note="")

    def __call__(self, event: tuple[str, Any]) -> None:
        """Show an event."""
        kind, value = event
        if kind == "note":
            say(value)
        elif kind == "start":
            self._start(*value)
        else:
            advance(self.bar, self.task)

    def _start(self, described: str, doubt: str | None, chunks: int, pending: int) -> None:
        if not self.chunks:
            console.print(described)
            if doubt:
                say(f"warning: {doubt}")
            self.bar.start_task(self.task)
        self.chunks = chunks
        there = max(chunks - pending, int(self.bar.tasks[self.task].completed))
        self.bar.update(self.task, total=chunks, completed=there, visible=True)
