"""A task, a call that runs in a process of its own, and its outcome."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.errors import InputError
from prepkd.runtime.machine_faults import explained
from prepkd.runtime.workspace import scratch_root


@dataclass(frozen=True)
class Task:
    """A call of a module's function, which another process imports; `name` is for messages."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """A task's result: the value of its function, or one line on why there is none."""

    name: str
    value: Any = None
    failure: str | None = None


@dataclass(frozen=True)
class Project:
    """The folders that a task works in, on a file system that every process sees: the project's, and that of unfinished work."""

    folder: Path
    scratch: Path

    def enter(self) -> None:
        """Work there from now on; raises InputError if this machine does not see them."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder}: {error.strerror} on {os.uname().nodename}; the project must be on a file system that all "
                "nodes see, at the same path"
            ) from None
        os.environ["PREPKD_SCRATCH"] = str(self.scratch)


def here() -> Project:
    """This process's project, as other processes find it."""
    return Project(Path.cwd(), scratch_root().absolute())


def perform(project: Project, task: Task, *more: object) -> Outcome:
    """Call a task's function, with `more` arguments; an error becomes the line that the command line would print.

    Raises KeyboardInterrupt after a signal.
    """
    try:
        project.enter()
        return Outcome(task.name, value=task.function(*task.arguments, *more))
    except KeyboardInterrupt:
        raise
    except InputError as error:
        return Outcome(task.name, failure=error.lines[0])
    except BaseException as error:  # noqa: BLE001 - other tasks go on; a Rust library's panic and SystemExit are no Exceptions
        if (fault := explained(error)) is None:
            traceback.print_exc()
            fault = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(task.name, failure=fault)
