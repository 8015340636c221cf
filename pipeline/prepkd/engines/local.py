"""Run tasks on this machine, several at once, each in its own process, with the same results as when run alone."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from queue import SimpleQueue

import torch

from prepkd.engines.task import Outcome, Project, Task, run_task
from prepkd.runtime.machine_faults import explained
from prepkd.runtime.signals import Interrupted, interrupt_on_signals

READ = 2**16  # bytes of output at a time


def run(tasks: Sequence[Task], project: Project, jobs: int, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Run the tasks, `jobs` at once, and yield their outcomes as they end; `say` gets their output, line by line.

    Tasks are assigned to the GPUs in turn. An exception here, such as Interrupted, asks the tasks to save their work and end,
    and waits for them.
    """
    # Tasks are forks of a process that has imported their modules and computed nothing yet.
    context = get_context("forkserver")
    context.set_forkserver_preload(sorted({task.function.__module__ for task in tasks}))
    gpus = torch.cuda.device_count()
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(jobs):
        slots.put(slot)
    processes = _Processes()
    with ThreadPoolExecutor(jobs) as pool:
        one = partial(_in_slot, context, processes, slots, project, gpus, say)
        try:
            for future in as_completed([pool.submit(one, task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise


class _Processes:
    """The running processes, all of which can be asked to end."""

    def __init__(self) -> None:
        self._running: set[ForkServerProcess] = set()
        self._lock = threading.Lock()
        self._ended = False

    def start(self, process: ForkServerProcess) -> None:
        """Start a process; ask it to end if `end` was already called."""
        with self._lock:
            process.start()
            self._running.add(process)
            if self._ended:
                process.terminate()

    def join(self, process: ForkServerProcess) -> None:
        """Wait for a process to end."""
        process.join()
        with self._lock:
            self._running.remove(process)

    def end(self) -> None:
        """Ask all processes to end, including those started later."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def _in_slot(
    context: ForkServerContext,
    processes: _Processes,
    slots: "SimpleQueue[int]",
    project: Project,
    gpus: int,
    say: Callable[[str], None],
    task: Task,
) -> Outcome:
    """Run a task in a new process when a slot is free, and wait for it."""
    slot = slots.get()
    try:
        return _in_process(context, processes, project, slot % gpus if gpus else None, say, task)
    finally:
        slots.put(slot)


def _in_process(
    context: ForkServerContext,
    processes: _Processes,
    project: Project,
    gpu: int | None,
    say: Callable[[str], None],
    task: Task,
) -> Outcome:
    """Run a task in a new process and wait for it; a process that cannot start is a failure."""
    try:
        (text, text_end), (result, result_end) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        with text_end, result_end:  # the process has copies
            process = context.Process(target=_child, args=(task, project, gpu, text_end, result_end))
            processes.start(process)
    except (EOFError, OSError) as error:  # EOFError: the fork server could not fork
        return Outcome(task.name, failure=f"its process cannot start: {explained(error) or error}")
    try:
        with text, result:  # closed before the process is joined, so that it does not wait for a reader
            outcome = _outcome(text, result, say)
    except BaseException:
        process.terminate()
        raise
    finally:
        processes.join(process)
    return outcome or Outcome(task.name, failure=_how_it_ended(process.exitcode or 0))


def _child(task: Task, project: Project, gpu: int | None, text: Connection, result: Connection) -> None:
    """Run in a task's process: send the output to `text` and the outcome to `result`."""
    os.setsid()  # Ctrl-C reaches only the command, which then ends its tasks
    interrupt_on_signals()
    with text:
        for stream in (1, 2):
            os.dup2(text.fileno(), stream)
    if gpu is not None:
        os.environ["LOCAL_RANK"] = str(gpu)
    try:
        outcome = run_task(project, task)
    except Interrupted as ended:
        sys.exit(128 + ended.number)
    sys.stdout.flush()
    sys.stderr.flush()
    result.send(outcome)


def _outcome(text: Connection, result: Connection, say: Callable[[str], None]) -> Outcome | None:
    """Pass on a process's output until its outcome arrives; None if it ends without one."""
    line, outcome, open_ends = b"", None, [text, result]

    def pass_on() -> None:
        nonlocal line
        if not (read := os.read(text.fileno(), READ)):
            open_ends.remove(text)
        *lines, line = (line + read).split(b"\n")
        for one in lines:
            say(one.decode(errors="replace"))

    while result in open_ends:
        ready = wait(open_ends)
        if text in ready:
            pass_on()
        if result in ready:
            open_ends.remove(result)
            with contextlib.suppress(EOFError, OSError):  # an OSError: it was killed while it sent its outcome
                outcome = result.recv()
    while text in open_ends and text.poll():  # output sent before the outcome; a grandchild may keep the pipe open
        pass_on()
    return outcome


def _how_it_ended(exit_code: int) -> str:
    number = -exit_code if exit_code < 0 else exit_code - 128  # killed, or ended after saving its work
    if number in {*signal.Signals}:
        return f"its process was ended by {signal.Signals(number).name}; finished work is kept"
    return f"its process ended with exit code {exit_code}"
