"""The comparison's runs in a project: files, settings, commands."""

from pathlib import Path

from prepkd.project.params import Params
from prepkd.report.grid import Pair
from prepkd.report.run_logits import RunFile
from prepkd.stages._project import teacher_folders

COMPARISON = Path("results/compare")


def run_file(run: str, teacher: str, student: str) -> Path:
    """Return the file of a run's test logits."""
    return COMPARISON / "runs" / teacher / student / f"{run}.safetensors"


def grid(params: Params) -> list[Pair]:
    """Return every pair of teacher and student in the comparison, with its runs."""
    return [_pair(params, teacher, student) for teacher, student in params.pairs]


def _pair(params: Params, teacher: str, student: str) -> Pair:
    options = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
    runs = {
        run: RunFile(
            params.variant(run, teacher, student),
            run_file(run, teacher, student),
            f"prepkd compare --run '{run}'{options}",
        )
        for run in params.compare.runs
    }
    return Pair(teacher, student, teacher_folders(teacher.split("+")), runs)
