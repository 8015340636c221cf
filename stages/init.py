"""init: an empty folder -> a project with params.yaml, dvc.yaml, compare/dvc.yaml, git and DVC."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from prepkd.project.create import create_project
from prepkd.project.scaffold import NOTES, data_commands, placing
from prepkd.stages._console import say
from prepkd.stages._options import QuietAlone


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
    quiet: QuietAlone = False,
) -> None:
    """Make a new project for a data set, a teacher and a student; `dvc repro` runs there.

    No existing file is touched: if one is in the way, nothing is written.
    """
    params, left = create_project(folder, dataset, teacher=teacher, student=student, raw=raw, git=git, on_wait=say)
    models = f"{params.teachers['teacher'].model} teaches {params.distill.student}"
    raw = str(params.prepare.raw)
    put = "" if (folder / raw).exists() else placing(dataset, raw, folder)
    into = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    for line in [
        f"{folder / 'params.yaml'}: {models}",
        *left,
        *([f"note: {NOTES[dataset]}"] if dataset in NOTES else []),
        *([f"first: {put}"] if put else []),
        f"next: {' && '.join([*into, *data_commands(dataset, raw), 'dvc repro'])}",
    ]:
        say(line)
