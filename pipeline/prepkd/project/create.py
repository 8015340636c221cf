"""Create a new project in a folder, or leave the folder as it was."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from ruamel.yaml import YAML

from prepkd.errors import InputError, one_line
from prepkd.models import build_model, check_model, pretrained
from prepkd.models.names import architecture, is_factory
from prepkd.project.params import Params
from prepkd.project.repository import make_repository
from prepkd.project.scaffold import DATASETS, project_files
from prepkd.runtime.files import file_sha256, read_object, write_bytes, write_json
from prepkd.runtime.outputs import locked
from prepkd.runtime.services import is_remote
from prepkd.settings.validation import validated

# While `init` runs: the SHA-256 of each file that it writes, so that a later run recognises them.
JOURNAL = ".prepkd-init.json"


def create_project(
    folder: Path,
    dataset: str,
    *,
    teacher: str | None,
    student: str | None,
    raw: str | None,
    git: bool,
    on_wait: Callable[[str], None] = lambda line: None,
) -> tuple[Params, list[str]]:
    """Write a project's files to `folder`, and with `git` set up a repository; return the settings and the remaining steps.

    None selects the data set's default teacher, student or raw folder. No existing file is touched: if one is in the way, or
    anything fails, nothing is left behind. Unchanged files of a killed call are overwritten. While another process creates a
    project there, `on_wait` gets one line, and this one waits. Raises InputError.
    """
    if dataset not in DATASETS:
        raise InputError(f"--dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    if raw and dataset == "digits":
        raise InputError(f"--raw is {raw!r}, and digits are bundled; leave --raw out, or name another --dataset")
    if raw and not is_remote(raw) and ".." in Path(raw).parts:  # a queued experiment runs in another folder
        raw = str((folder / raw).resolve())
    with locked(folder.resolve(), locks(), on_wait):
        return _create(folder, dataset, teacher, student, raw, git)


def locks() -> Path:
    """The folder of the locks for new projects: in the system's temporary folder, so that a user's folder stays clean."""
    return Path(tempfile.gettempdir(), f"prepkd-{os.getuid()}")


def _create(
    folder: Path, dataset: str, teacher: str | None, student: str | None, raw: str | None, git: bool
) -> tuple[Params, list[str]]:
    made = project_files(dataset, teacher, student, raw)
    ours, resumed = left_by_killed(folder), (folder / JOURNAL).is_file()
    if (folder / "README.md").exists() and "README.md" not in ours:
        del made["README.md"]
    # `dvc init` replaces .dvc if it is not a folder, and .dvcignore with it.
    others = [] if not git or (folder / ".dvc").is_dir() else [".dvc", ".dvcignore"]
    if found := next(filter(None, (in_the_way(folder / name) for name in [*made, *others] if name not in ours)), None):
        raise InputError(f"{found}: exists; choose an empty folder: `prepkd init FOLDER`")
    settings = YAML(typ="safe", pure=True).load(made["params.yaml"])
    params = validated(Params, settings, str(folder / "params.yaml"))
    refuse_unfit_models(params)
    paths, journal = [folder / name for name in made], folder / JOURNAL
    missing = {parent for path in paths for parent in path.parents if not parent.exists()}
    try:
        write_json(journal, {name: hashlib.sha256(text.encode()).hexdigest() for name, text in made.items()})
        for path, text in zip(paths, made.values(), strict=True):
            write_bytes(path, text.encode())
        notes = make_repository(folder, list(made), resumed=resumed) if git else []
        journal.unlink()
    except BaseException:  # a half-made project would block the next try
        for path in (*paths, journal):
            path.unlink(missing_ok=True)
        for parent in sorted(missing, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    return params, notes


def left_by_killed(folder: Path) -> set[str]:
    """Return the names of unchanged files that a killed `init` wrote to a folder."""
    journal = folder / JOURNAL
    try:
        written = read_object(journal) if journal.is_file() else {}
    except ValueError:  # not ours
        return set()
    paths = {name: folder / name for name in written}
    return {name for name, path in paths.items() if path.is_file() and file_sha256(path) == written[name]}


def in_the_way(path: Path) -> Path | None:
    """Return the path if it exists, or the first of its parents that is not a folder; None if the path is free."""
    if os.path.lexists(path):
        return path
    return next((parent for parent in path.parents if os.path.lexists(parent) and not parent.is_dir()), None)


def refuse_unfit_models(params: Params) -> None:
    """Raise InputError if the teacher or the student does not exist, or fails on images of the data set's shape.

    The shape of a user's own data is not known yet; a user's own factories may be written later.
    """
    source = params.prepare.source
    for option, name in (("--teacher", params.teachers["teacher"].model), ("--student", params.distill.student)):
        if is_factory(name):
            continue
        if source.shape is None:
            check_model(name)
            continue
        *size, channels = source.shape
        try:
            check_model(name, channels)
            try_model(name, (channels, *size))
        except InputError as error:
            raise InputError(f"{option} with --dataset {source.name}: {error}") from None


@torch.inference_mode()
def try_model(name: str, shape: tuple[int, ...]) -> None:
    """Run a model of this architecture on two black images of a shape (C, H, W); raises InputError if it fails."""
    side = known.preprocessing.size if (known := pretrained(name)) else None
    channels, *size = shape
    images = torch.zeros(2, channels, *((side, side) if side else size))
    try:
        with torch.random.fork_rng(devices=[]):
            build_model(architecture(name), 10, in_channels=channels).eval()(images)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a layer may raise anything for too small a picture
        raise InputError(
            f"model {name!r} fails on its images, {' x '.join(map(str, size))} with {channels} channels: {one_line(error, 200)}; "
            "choose another model"
        ) from None
