"""doctor: the machine and the project -> checks, each with its remedy; writes nothing."""

from collections.abc import Iterator
from pathlib import Path

import typer
from prepkd.doctor import disk, machine, packages, repository
from prepkd.doctor.check import Check, CheckVerdict, check_table, error, warning
from prepkd.errors import InputError
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import data_file, store_url


def doctor(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check what prepkd needs of this machine and this project; each fault comes with its remedy.

    The exit code is 0 unless something makes prepkd fail, then 1: packages that do not fit together, a full disk, a limit, files
    that cannot be read. Warnings say what works only in part.
    """
    found = list(checks(params_file, overrides))
    worst = [one for one in found if one.verdict is CheckVerdict.ERROR]
    show({"checks": [one.as_json() for one in found], "fails": bool(worst)}, *check_table(found))
    if worst:
        say(f"error: {', '.join(one.name for one in worst)}: prepkd fails here; the remedies are above")
        raise typer.Exit(1)


def checks(params_file: Path, overrides: list[str]) -> Iterator[Check]:
    """Yield all checks in order; the last, on disk space, needs valid settings."""
    here = Path().absolute()
    yield packages.python_version()
    yield packages.torch_pair()
    yield machine.platform()
    yield machine.gpu()
    yield machine.compiler()
    yield machine.shared_memory()
    yield machine.open_files()
    yield machine.writable(scratch_root(), "unfinished work")
    yield repository.git_state(here)
    yield repository.dvc_state(here)
    try:
        params = read_params(params_file, overrides)
    except InputError as problem:
        if params_file.is_file():
            yield error("settings", str(problem), "correct the settings")
        else:
            yield warning("settings", f"no {params_file}", "go to a project's root, or make one: prepkd init FOLDER")
        return
    stores = {name: store_url(params, name) for name in params.all_teachers}
    yield disk.store_room(params, data_file(params), stores, copied_by_dvc=repository.copies(here))
