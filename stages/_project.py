"""A project: the paths of its files, its scratch folder for unfinished work."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from prepkd.project.params import Params
from prepkd.runtime import processes
from prepkd.runtime.kept import kept
from prepkd.runtime.outputs import Output, claimed
from prepkd.runtime.scratch import scratch as locked_scratch
from prepkd.stages._console import say

DATA = Path("data")
TEACHERS = Path("models/teachers")
STUDENTS = Path("models/student")
EXPORTS = Path("exports")
METRICS = Path("results/metrics.json")
TRAINING = Path("results/training")  # curves of the students, one folder per seed


def data_file(params: Params) -> Path:
    """Return the path of the prepared data."""
    return DATA / f"{params.prepare.dataset}.h5"


def teacher_folder(name: str) -> Path:
    """Return the folder of a trained teacher."""
    return TEACHERS / name


def teacher_folders(names: Iterable[str]) -> dict[str, Path]:
    """Return the folders of several teachers by name."""
    return {name: teacher_folder(name) for name in names}


def store_url(params: Params, name: str) -> str:
    """Return the place of a teacher's logit store: a local path, or a URL."""
    return f"{params.cache.root.rstrip('/')}/{name}.zarr"


def student_folder(seed: int) -> Path:
    """Return the folder of a trained student."""
    return STUDENTS / f"seed{seed}"


def logs_folder() -> Path:
    """Return the loggers' folder, `results/logs` of the project: the workspaces of queued runs are temporary."""
    return (queue_root() or Path()) / "results" / "logs"


def scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """Lock a folder for one piece of unfinished work, in this project's scratch."""
    lock = partial(locked_scratch, scratch_root(), fingerprint, on_wait=say)
    return processes.held_by_first(lock, scratch_root() / fingerprint)


def kept_scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """The same for work that stays there when it is finished."""
    lock = partial(kept, scratch_root(), fingerprint, on_wait=say)
    return processes.held_by_first(lock, scratch_root() / fingerprint)


def scratch_root() -> Path:
    """Return the folder of unfinished work: PREPKD_SCRATCH, else one under the DVC root, shared by queued runs."""
    if chosen := os.environ.get("PREPKD_SCRATCH"):
        return Path(chosen)
    if root := queue_root():
        return root / ".dvc" / "tmp" / "prepkd"
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder / ".dvc" / "tmp" / "prepkd"
    return here / ".prepkd-scratch"


@contextlib.contextmanager
def writing(*outputs: Output) -> Iterator[None]:
    """Claim a command's outputs before its work: refuse what prepkd did not write there, and wait for other processes."""
    with claimed(outputs, scratch_root(), say):
        yield


@contextlib.contextmanager
def training(*outputs: Output) -> Iterator[None]:
    """As `writing`, for a command that trains in one or several processes; the first one claims the outputs."""
    with processes.joined(), writing(*outputs) if processes.is_first() else contextlib.nullcontext():
        processes.wait()
        yield


def queue_root() -> Path | None:
    """Return the project whose queue runs this: queued experiments work in <root>/.dvc/tmp/exps; None outside of one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[3]
    return None
