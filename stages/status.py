"""status: a project -> which stages are done, out of date or missing, and what to run next; writes nothing."""

from pathlib import Path

from prepkd.errors import InputError
from prepkd.project.params import Params
from prepkd.project.scaffold import data_commands
from prepkd.runtime.services import is_remote
from prepkd.stages._comparison import COMPARISON, run_file
from prepkd.stages._console import say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import (
    DETAILS,
    EXPORTS,
    METRICS,
    STUDENTS,
    TRAINING,
    data_file,
    store_url,
    student_folder,
    teacher_folder,
)
from prepkd.status.by_dvc import is_dvc_project, stages_by_dvc
from prepkd.status.by_files import Expected, stages_by_files
from prepkd.status.state import Status, next_commands, present
from prepkd.status.status_table import status_tables

PAGE = Path("results/report.html")
RESULTS = {
    "page of all results": PAGE,
    "figures": METRICS,
    "by seed and class": DETAILS,
    "comparison": COMPARISON / "table.md",
    "curves": TRAINING,
    "students": STUDENTS,
    "exports": EXPORTS,
}
WITHOUT_DVC = "no DVC project: outputs are looked for; whether they are up to date is not known"


def status(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show which stages are done, out of date or missing, where results are, and what to run next.

    In a DVC project `dvc status` is asked, and a stage that waits for another is out of date too; elsewhere the outputs are
    looked for. The exit code is 0 in each case.
    """
    params, here = read_params(params_file, overrides), Path()
    by_dvc, notes = is_dvc_project(here.absolute()), []
    expected = expected_stages(params)
    try:
        stages = stages_by_dvc(here) if by_dvc else stages_by_files(expected)
    except InputError as failure:
        by_dvc, stages, notes = False, stages_by_files(expected), [str(failure)]
    if not by_dvc:
        notes.append(WITHOUT_DVC)
    commands = {name: one.command for name, one in expected.items()}
    raw = str(params.prepare.raw)
    first = [] if is_remote(raw) or Path(raw).exists() else data_commands(params.prepare.dataset, raw)
    following = next_commands(stages, by_dvc=by_dvc, commands=commands, first=first, page=PAGE)
    found = Status(stages, present(RESULTS), following, by_dvc, notes)
    for note in notes:
        say(f"note: {note}")
    show(found.as_json(), *status_tables(found))


def expected_stages(params: Params) -> dict[str, Expected]:
    """The stages of the settings, as DVC names them: command and outputs."""
    found = {"prepare": Expected("prepkd prepare", (str(data_file(params)),))}
    for name in params.all_teachers:
        kind = "generation" if name in params.generations else "teacher"
        found[f"train-{kind}@{name}"] = Expected(params.command_of(name), (str(teacher_folder(name)),))
        found[f"cache-logits@{name}"] = Expected(f"prepkd cache-logits {name}", (store_url(params, name),))
    students = tuple(str(student_folder(seed)) for seed in params.distill.seed_list)
    found["distill"] = Expected("prepkd distill", students)
    found["evaluate"] = Expected("prepkd evaluate", (str(METRICS), str(DETAILS)))
    for teacher, student in params.pairs:
        for run in params.compare.runs:
            options = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
            command = f"prepkd compare --run '{run}'{options}"
            found[f"compare {run}, {teacher} -> {student}"] = Expected(command, (str(run_file(run, teacher, student)),))
    found["compare"] = Expected("prepkd compare", (str(COMPARISON / "table.md"),))
    found["report"] = Expected("prepkd report", (str(PAGE),))
    return found
