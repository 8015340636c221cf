"""Run tasks on a Ray cluster. Ray places them, and restarts them elsewhere when a process or a node dies."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prepkd.engines.task import Outcome, Project, Task, run_task
from prepkd.errors import InputError, one_line
from prepkd.runtime.signals import Interrupted, interrupt_on_signals

RETRIES = 3  # of a task whose process or node has died
SAVING = 60  # seconds for tasks to save their work when the command is interrupted
LEAVING = 5  # seconds for other workers to leave finished work
LOOK = 0.5  # seconds between two polls of the workers' events


@dataclass(frozen=True)
class Share:
    """The resources that Ray reserves for each task: CPUs, and GPUs or a fraction of one."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")

    def fits(self, node: dict[str, float]) -> int:
        """The number of tasks that a node with these resources can run at once."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(int(node.get(kind, 0) / amount + 1e-6) for kind, amount in wanted.items() if amount)


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS or of this machine, else start one here; raises InputError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that starts here sends no statistics
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise InputError(f"--engine ray: no cluster at {where}: {one_line(error)}") from None
    except SystemExit as ended:
        if ended.code != signal.SIGTERM:
            raise
        raise Interrupted(
            signal.SIGTERM
        ) from None  # of Ray's own handler, which calls sys.exit with the signal's number
    signal.signal(signal.SIGTERM, before)  # Ray's own handler would exit at once
    try:
        yield
    finally:
        ray.shutdown()


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU."""
    return any(node.get("GPU", 0) for node in _nodes())


def room(share: Share) -> int:
    """The number of tasks with this share that the cluster can run at once."""
    return sum(share.fits(node) for node in _nodes())


def run(tasks: Sequence[Task], project: Project, share: Share) -> Iterator[Outcome]:
    """Run the tasks, each in its own process, and yield their outcomes as they end.

    Ray prints their output. An exception here, such as Interrupted, asks the tasks to end, and waits while they save their work.
    """
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=RETRIES, max_calls=1)(_perform)
    waiting = {remote.options(name=task.name).remote(project, task): task for task in tasks}
    try:
        while waiting:
            [ready], _ = ray.wait([*waiting])
            yield _outcome(waiting.pop(ready), ready)
    except BaseException:
        for one in waiting:
            ray.cancel(one)
        ray.wait([*waiting], num_returns=len(waiting), timeout=SAVING)
        raise


def run_together(
    task: Task, project: Project, count: int, share: Share, on_event: Callable[[Any], None], say: Callable[[str], None]
) -> Outcome:
    """Run one task in `count` actors that share its work; return the first success, by which time all the work is done.

    Each call gets a further argument, a function that passes its values to `on_event`. Actors and nodes may die as long as one
    actor remains; if all end, the last failure is returned.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    remote = ray.remote(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
        scheduling_strategy="SPREAD",
    )
    actor: Any = remote(_Worker)
    working = {(worker := actor.remote(project)).work.remote(task, events): worker for _ in range(count)}
    outcome = Outcome(task.name, failure="there was no worker")
    while working:
        [*ready], _ = ray.wait([*working], timeout=LOOK)
        _pass_on(events, on_event)
        for one in ready:
            outcome = _outcome(task, one)
            ray.kill(working.pop(one))  # frees its resources, for which another worker may wait
            if outcome.failure is None:
                if working:
                    ray.wait([*working], num_returns=len(working), timeout=LEAVING)
                _pass_on(events, on_event)
                return outcome
            say(f"{task.name}: a worker has ended, {len(working)} go on: {outcome.failure}")
    return outcome


class _Worker:
    """An actor that works on a task and holds the data that the task has loaded."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def work(self, task: Task, events: Queue) -> Outcome:
        """Do a share of the work; events are sent without waiting for delivery, except for the last one."""
        queue: Any = events.actor
        last: list[ObjectRef[Any]] = []

        def tell(event: object) -> None:
            last[:] = [queue.put.remote(event)]

        outcome = _perform(self.project, task, tell)
        ray.get(last)
        return outcome


def _perform(project: Project, task: Task, *more: object) -> Outcome:
    """Like `run_task`, but after SIGTERM, as on a preempted node, save the work and exit: Ray restarts the task elsewhere."""
    interrupt_on_signals()
    try:
        return run_task(project, task, *more)
    except Interrupted as ended:
        if ended.number == signal.SIGINT:  # ray.cancel
            raise
        sys.exit(128 + ended.number)


def _outcome(task: Task, ready: Any) -> Outcome:
    try:
        found: Outcome = ray.get(ready)
    except RayError as error:
        return Outcome(task.name, failure=_line(error))
    return found


def _pass_on(events: Queue, on_event: Callable[[Any], None]) -> None:
    for event in events.get_nowait_batch(events.qsize()):
        on_event(event)


def _line(error: RayError) -> str:
    """The first line of Ray's multi-line message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
