"""status: a project -> which stages are done, out of date or missing, and what to run next; writes nothing."""

from pathlib import Path

from prepkd.stages._comparison import COMPARISON, added_file, grid
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
    teacher_folders,
)
from prepkd.status.expected import expected_stages
from prepkd.status.project_status import project_status
from prepkd.status.status_table import status_tables

PAGE = Path("results/report.html")
TABLE = COMPARISON / "table.md"
RESULTS = {
    "page of all results": PAGE,
    "figures": METRICS,
    "by seed and class": DETAILS,
    "comparison": TABLE,
    "curves": TRAINING,
    "students": STUDENTS,
    "exports": EXPORTS,
}


def status(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show which stages are done, out of date or missing, where results are, and what to run next.

    In a DVC project the states are those of `dvc status`, and a stage that waits for another is out of date too; elsewhere a
    stage is done if its outputs exist. The exit code says nothing about them: it is 0 unless the settings are wrong.
    """
    params = read_params(params_file, overrides)
    expected = expected_stages(
        params,
        data=data_file(params),
        teachers=teacher_folders(params.all_teachers),
        stores={name: store_url(params, name) for name in params.all_teachers},
        students=map(student_folder, params.distill.seed_list),
        figures=(METRICS, DETAILS),
        grid=grid(params),
        added={name: added_file(name) for name in params.compare.add},
        table=TABLE,
        page=PAGE,
    )
    found = project_status(Path(), params, expected, RESULTS, PAGE, overridden=bool(overrides))
    for note in found.notes:
        say(f"note: {note}")
    show(found.as_json(), *status_tables(found))
