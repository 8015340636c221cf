"""A project: its settings, the paths of its files, its scratch folder for unfinished work."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from prepkd.errors import InputError
from prepkd.project.params import Params, load_params
from prepkd.runtime.finished import kept
from prepkd.runtime.outputs import Output, claimed
from prepkd.runtime.scratch import scratch as locked_scratch
from prepkd.stages._console import console

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.", show_default=True)]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", "-S", metavar="KEY=VALUE", help="Override a setting, as in `-S distill.kd.tau=8`; repeatable."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace finished results of other settings; `dvc repro` does so without it.")
]
DATA = Path("data")
TEACHERS = Path("models/teachers")
STUDENTS = Path("models/student")
TRAINING = Path("results/training")  # curves of the students, one folder per seed


def read_params(path: Path, overrides: list[str], **options: object) -> Params:
    """Read and validate the settings; command-line options (`distill__method="kd"`) win over --set and the file."""
    given = [f"{key.replace('__', '.')}={value}" for key, value in options.items() if value is not None]
    return load_params(path, [*overrides, *given])


def known_teacher(params: Params, name: str) -> str:
    """Return the name if it is a key of `teachers`; raises InputError."""
    if name not in params.teachers:
        raise InputError(
            f"teacher is {name!r}; expected a key of teachers in params.yaml: {', '.join(params.teachers)}"
        )
    return name


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
    return locked_scratch(scratch_root(), fingerprint, on_wait=lambda line: console.print(line, markup=False))


def kept_scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """The same for work that stays there when it is finished."""
    return kept(scratch_root(), fingerprint, on_wait=lambda line: console.print(line, markup=False))


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
    with claimed(outputs, scratch_root(), lambda line: console.print(line, markup=False)):
        yield


def may_replace(asked: bool) -> bool:
    """Whether finished results of other settings may be replaced: as asked, and always in a stage that DVC runs.

    DVC keeps the outputs of its stages in its cache, and decides itself what is out of date; it sets DVC_STAGE.
    """
    return asked or "DVC_STAGE" in os.environ


def queue_root() -> Path | None:
    """Return the project whose queue runs this: queued experiments work in <root>/.dvc/tmp/exps; None outside of one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[3]
    return None
