"""The comparison's runs in a project: files, settings, commands."""

from pathlib import Path

from prepkd.project.params import Params
from prepkd.report.run_logits import RunFile
from prepkd.stages._project import store_url, teacher_folders

COMPARISON = Path("results/compare")


def run_file(run: str, teacher: str, student: str) -> Path:
    """Return the file of a run's test logits."""
    return COMPARISON / "runs" / teacher / student / f"{run}.safetensors"


def grid(params: Params) -> dict[str, dict[str, RunFile]]:
    """Return the runs of every pair of teacher and student in the comparison, by `teacher -> student`."""
    return {f"{teacher} -> {student}": _runs(params, teacher, student) for teacher, student in params.pairs}


def _runs(params: Params, teacher: str, student: str) -> dict[str, RunFile]:
    options = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
    runs = {}
    for run in params.compare.runs:
        settings, command = params.variant(run, teacher, student), f"prepkd compare --run '{run}'{options}"
        teachers = teacher_folders(settings.teacher_names)  # the run's own, which may differ from the pair's
        stores = {name: store_url(params, name) for name in teachers}
        runs[run] = RunFile(settings, teachers, stores, run_file(run, teacher, student), command)
    return runs
