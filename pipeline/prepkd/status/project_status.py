"""The state of a project, from DVC if possible, else from its files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prepkd.errors import InputError
from prepkd.project.params import Params
from prepkd.project.scaffold import data_commands
from prepkd.runtime.services import is_remote
from prepkd.status.by_dvc import has_remote, is_dvc_project, stages_by_dvc
from prepkd.status.by_files import Expected, stages_by_files
from prepkd.status.state import StageState, StageStatus, Status, is_report, next_commands, present

WITHOUT_DVC = "no DVC project"
BY_FILES = "outputs are looked for; whether they are up to date is not known"


def project_status(
    folder: Path,
    params: Params,
    expected: Mapping[str, Expected],
    results: Mapping[str, Path],
    page: Path,
    *,
    overridden: bool = False,
) -> Status:
    """The stages of the project in `folder`, the existing `results`, and the next commands; `page` is the report.

    `expected` are the stages to check without DVC, or if DVC fails; its message is then among the notes. `overridden` says
    that `params` are not those of params.yaml, which DVC reads.
    """
    by_dvc, notes = is_dvc_project(folder), []
    try:
        stages = stages_by_dvc(folder) if by_dvc else stages_by_files(expected)
    except InputError as failure:
        by_dvc, stages, notes = False, stages_by_files(expected), [str(failure), BY_FILES]
    if not by_dvc and not notes:
        notes = [f"{WITHOUT_DVC}: {BY_FILES}"]
    if by_dvc and overridden:
        notes.append("-S does not reach DVC: the states are those of params.yaml as it is")
    if by_dvc and (problem := _page_problem(page, results)):
        stages = [_without_page(one, problem) for one in stages]
    commands = {name: one.command for name, one in expected.items()}
    remote = any(one.elsewhere for one in stages) and has_remote(folder)
    following = next_commands(
        stages, by_dvc=by_dvc, commands=commands, first=_raw_data(params), page=page, remote=remote
    )
    return Status(stages, present(results), following, by_dvc, notes)


def _page_problem(page: Path, results: Mapping[str, Path]) -> str:
    """Why the page is not of these results: it does not exist, or a file is newer, as after `dvc checkout`; '' if it is."""
    if not page.is_file():
        return f"no {page}"
    files = (path for path in results.values() if path != page and path.is_file())
    newer = next((path for path in files if path.stat().st_mtime > page.stat().st_mtime), None)
    return f"{page} is older than {newer}" if newer else ""


def _without_page(stage: StageStatus, problem: str) -> StageStatus:
    """Mark the report's stage as missing if its page is: DVC does not track the page, and may call the stage done."""
    gone = is_report(stage) and stage.state is StageState.DONE
    return replace(stage, state=StageState.MISSING, why=problem) if gone else stage


def _raw_data(params: Params) -> list[str]:
    """The commands that fetch the raw data; none if the data exist or are remote."""
    raw = str(params.prepare.raw)
    return [] if is_remote(raw) or Path(raw).exists() else data_commands(params.prepare.dataset, raw)
