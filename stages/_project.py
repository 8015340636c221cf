"""Paths of a project's files, and locks of its unfinished work and of its outputs."""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from prepkd.project.params import Params
from prepkd.runtime import distributed
from prepkd.runtime.outputs import Output, claimed
from prepkd.runtime.reusable_scratch import reusable_scratch, versioned_scratch
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import say

DATA = Path("data")
TEACHERS = Path("models/teachers")
STUDENTS = Path("models/student")
EXPORTS = Path("exports")
METRICS = Path("results/metrics.json")
DETAILS = Path("results/details.json")  # all figures, by seed and by class
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
    """Return the local path or URL of a teacher's logit store."""
    return f"{params.cache.root.rstrip('/')}/{name}.zarr"


def student_folder(seed: int) -> Path:
    """Return the folder of a trained student."""
    return STUDENTS / f"seed{seed}"


def scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """Lock the folder of one piece of unfinished work in this project's scratch."""
    lock = partial(versioned_scratch, scratch_root(), fingerprint, on_wait=say)
    return distributed.lock_in_main_process(lock, scratch_root() / fingerprint)


def kept_scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """As `scratch`, for work that stays in the folder when it is finished."""
    lock = partial(reusable_scratch, scratch_root(), fingerprint, on_wait=say)
    return distributed.lock_in_main_process(lock, scratch_root() / fingerprint)


@contextlib.contextmanager
def writing(*outputs: Output) -> Iterator[None]:
    """Claim a command's outputs before it runs: refuse files that prepkd did not write, and wait for other processes."""
    with claimed(outputs, scratch_root(), say):
        yield


@contextlib.contextmanager
def training(*outputs: Output) -> Iterator[None]:
    """As `writing`, for a command that trains in one or several processes; the first one claims the outputs."""
    with distributed.process_group(), writing(*outputs) if distributed.is_main_process() else contextlib.nullcontext():
        distributed.patient_barrier()
        yield
