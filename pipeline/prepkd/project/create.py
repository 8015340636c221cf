"""Make a new project in a folder, or leave the folder as it was."""

import contextlib
import os
from pathlib import Path

from ruamel.yaml import YAML

from prepkd.errors import InputError
from prepkd.models import check_model
from prepkd.models.names import split_name
from prepkd.project.params import Params
from prepkd.project.repository import make_repository
from prepkd.project.scaffold import DATASETS, project_files
from prepkd.runtime.files import write_bytes
from prepkd.settings.validation import validated


def create_project(
    folder: Path, dataset: str, *, teacher: str | None, student: str | None, raw: str | None, git: bool
) -> tuple[Params, list[str]]:
    """Write a project's files to `folder`, and with `git` set up a repository; return the settings and the remaining steps.

    None stands for the data set's usual teacher, student and raw folder. No existing file is touched: if one is in the way,
    or anything fails, nothing is left behind. Raises InputError.
    """
    if dataset not in DATASETS:
        raise InputError(f"--dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    if raw and dataset == "digits":
        raise InputError(f"--raw is {raw!r}, and digits are bundled; leave --raw out, or name another --dataset")
    if raw and ".." in Path(raw).parts:  # a queued experiment runs in another folder
        raw = str((folder / raw).resolve())
    made = project_files(dataset, teacher, student, raw)
    if (folder / "README.md").exists():
        del made["README.md"]
    # `dvc init` replaces whatever is at .dvc but is no folder, and .dvcignore with it.
    others = [] if not git or (folder / ".dvc").is_dir() else [".dvc", ".dvcignore"]
    if found := next(filter(None, (in_the_way(folder / name) for name in [*made, *others])), None):
        raise InputError(f"{found}: is there already; choose an empty folder: `prepkd init FOLDER`")
    settings = YAML(typ="safe", pure=True).load(made["params.yaml"])
    params = validated(Params, settings, str(folder / "params.yaml"))
    refuse_unknown_models(params)
    paths = [folder / name for name in made]
    missing = {parent for path in paths for parent in path.parents if not parent.exists()}
    try:
        for path, text in zip(paths, made.values(), strict=True):
            write_bytes(path, text.encode())
        notes = make_repository(folder, list(made)) if git else []
    except BaseException:  # a half-made project would block the next try
        for path in paths:
            path.unlink(missing_ok=True)
        for parent in sorted(missing, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    return params, notes


def in_the_way(path: Path) -> Path | None:
    """Return what stands at a file's path, or the file that stands at one of its folders; None if the path is free."""
    if os.path.lexists(path):
        return path
    return next((parent for parent in path.parents if os.path.lexists(parent) and not parent.is_dir()), None)


def refuse_unknown_models(params: Params) -> None:
    """Raise InputError if torchvision or timm lacks the teacher or the student; a user's own factories may come later."""
    for name in (params.teachers["teacher"].model, params.distill.student):
        if split_name(name)[0]:
            check_model(name)
