"""init: an empty folder -> a project: params.yaml, dvc.yaml, compare/dvc.yaml, and git and DVC around them."""

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from prepkd.errors import InputError
from prepkd.models.names import split_name
from prepkd.project.params import Params
from prepkd.stages._shared import console
from ruamel.yaml import YAML

MESSAGE = "A prepkd project"


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The project's folder; it is made if need be.")
    ] = Path(),
    dataset: Annotated[
        str, typer.Option(help="digits, cifar10, cifar100, cinic10, tiny-imagenet, folder, h5.")
    ] = "digits",
    teacher: Annotated[
        str | None, typer.Option(help="The teacher's model.", show_default="one for the data set")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="The student's model.", show_default="one for the data set")
    ] = None,
    raw: Annotated[str | None, typer.Option(help="The raw data, from FOLDER.", show_default="in data/raw")] = None,
    git: Annotated[bool, typer.Option(help="Make a git repository with a first commit, and set up DVC.")] = True,
) -> None:
    """Make a new project for a data set, a teacher and a student; `dvc repro` runs there.

    Nothing that is there is touched: where a file is in the way, nothing is written.
    """
    from prepkd.project.scaffold import DATASETS, NOTES, data_commands, project_files
    from prepkd.runtime.files import write_bytes
    from prepkd.settings.validation import validated

    if dataset not in DATASETS:
        raise InputError(f"--dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    if raw and dataset == "digits":
        raise InputError(f"--raw is {raw!r}, and digits are bundled; leave --raw out, or name another --dataset")
    if raw and ".." in Path(raw).parts:  # a queued experiment runs in another folder
        raw = str((folder / raw).resolve())
    made = project_files(dataset, teacher, student, raw)
    if (folder / "README.md").exists():
        del made["README.md"]
    if found := next(filter(None, (in_the_way(folder / name) for name in made)), None):
        raise InputError(f"{found}: is there already; choose an empty folder: `prepkd init FOLDER`")
    settings = YAML(typ="safe", pure=True).load(made["params.yaml"])
    params = validated(Params, settings, str(folder / "params.yaml"))
    check_libraries(params)
    paths = [folder / name for name in made]
    missing = {parent for path in paths for parent in path.parents if not parent.exists()}
    try:
        for path, text in zip(paths, made.values(), strict=True):
            write_bytes(path, text.encode())
        notes = repository(folder, list(made)) if git else []
    except BaseException:  # a half-made project would be in the way of the next try
        for path in paths:
            path.unlink(missing_ok=True)
        for parent in sorted(missing, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    console.print(
        f"{folder / 'params.yaml'}: {params.teachers['teacher'].model} teaches {params.distill.student}", markup=False
    )
    into = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    for line in [
        *notes,
        *([f"note: {NOTES[dataset]}"] if dataset in NOTES else []),
        f"next: {' && '.join([*into, *data_commands(dataset, str(params.prepare.raw)), 'dvc repro'])}",
    ]:
        console.print(line, markup=False)


def in_the_way(path: Path) -> Path | None:
    """What stands where a file is to be written, or as a file where one of its folders is to be; None where nothing does."""
    if os.path.lexists(path):
        return path
    return next((parent for parent in path.parents if os.path.lexists(parent) and not parent.is_dir()), None)


def check_libraries(params: Params) -> None:
    """Raise InputError where torchvision or timm lacks the teacher or the student; others' factories may come later."""
    for name in (params.teachers["teacher"].model, params.distill.student):
        if split_name(name)[0]:
            from prepkd.models import check_model  # torch, which the zoo's names don't need

            check_model(name)


def repository(folder: Path, names: list[str]) -> list[str]:
    """Put git and DVC around the project, with a first commit; what could not be done, a line each."""
    from prepkd.project.schema import template

    if not shutil.which("git"):
        return ["git is not installed: `git init && dvc init` are left to you"]
    if run(folder, "git", "rev-parse", "--is-inside-work-tree").returncode:
        need(folder, "git", "init", "--quiet")
    if not (folder / ".dvc").is_dir():
        inside = bool(run(folder, "git", "rev-parse", "--show-prefix").stdout.strip())
        need(folder, "dvc", "init", "--quiet", "--force", *(["--subdir"] if inside else []))
        (folder / ".dvc" / "config").write_text(template("dvc-config"))
        (folder / ".dvcignore").write_text(template("dvcignore"))
    # Experiments start from a commit, and DVCLive reads it.
    need(folder, "git", "add", "--", ".dvc", *names)
    if run(folder, "git", "commit", "--quiet", "-m", MESSAGE).returncode:
        return [
            "nothing is committed yet, which experiments need: set git's user.name and user.email, then `git commit`"
        ]
    return []


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in the project's folder."""
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


def need(folder: Path, *command: str) -> None:
    """A command that must succeed; raises InputError with what it said."""
    done = run(folder, *command)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise InputError(f"{folder}: `{' '.join(command)}` failed: {said}")
