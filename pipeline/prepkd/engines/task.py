"""A task, a function call that runs in its own process, and its outcome."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.errors import InputError, one_line
from prepkd.runtime.machine_faults import explained
from prepkd.runtime.workspace import scratch_root


@dataclass(frozen=True)
class Task:
    """A call of a module-level function, which another process imports; `name` is for messages."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """A task's result: the return value of its function, or one line on its failure."""

    name: str
    value: Any = None
    failure: str | None = None


@dataclass(frozen=True)
class Project:
    """The folders of a task, on a file system that every process sees: the project's, and the one for unfinished work."""

    folder: Path
    scratch: Path

    def enter(self) -> None:
        """Change to the project's folder and set the scratch folder; raises InputError if this machine lacks the project."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder}: {error.strerror} on {os.uname().nodename}; the project must be on a file system that all "
                "nodes see, at the same path"
            ) from None
        os.environ["PREPKD_SCRATCH"] = str(self.scratch)


def current_project() -> Project:
    """This process's project, with absolute paths for other processes."""
    return Project(Path.cwd(), scratch_root().absolute())


def run_task(project: Project, task: Task, *more: object) -> Outcome:
    """Call a task's function with `more` arguments; an error becomes the line that the command line would print.

    Raises KeyboardInterrupt after a signal.
    """
    try:
        project.enter()
        return Outcome(task.name, value=task.function(*task.arguments, *more))
    except KeyboardInterrupt:
        raise
    except InputError as error:
        return Outcome(task.name, failure=error.lines[0])
    except BaseException as error:  # noqa: BLE001 - other tasks continue; Rust panics and SystemExit are not Exceptions
        if (fault := explained(error)) is None:
            traceback.print_exc()
            fault = one_line(f"{type(error).__name__}: {error}")
        return Outcome(task.name, failure=fault)
