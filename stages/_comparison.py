"""The runs of the comparison in a project: files, settings, commands."""

from functools import partial
from pathlib import Path

from prepkd.distillation.compared_runs import ARROW
from prepkd.errors import InputError
from prepkd.project.outputs import run_output
from prepkd.project.params import Params
from prepkd.report.added import AddedStudents, added_students
from prepkd.report.evaluation import Evaluation
from prepkd.report.run_logits import RunFile
from prepkd.runtime.devices import choose_device
from prepkd.stages._console import say, show
from prepkd.stages._project import data_file, store_url, teacher_folders, writing
from prepkd.stages._trained_on import trained_on
from prepkd.views import parse_recipe

COMPARISON = Path("results/compare")


def run_file(run: str, teacher: str, student: str) -> Path:
    """Return the file of a run's test logits."""
    return COMPARISON / "runs" / teacher / student / f"{run}.safetensors"


def added_file(name: str) -> Path:
    """Return the file of the test logits of students from another training loop."""
    return COMPARISON / "runs/added" / f"{name}.safetensors"


def added(params: Params, name: str) -> AddedStudents:
    """Measure the students of a key of `compare.add`, or read their logits if their files are unchanged."""
    on = Evaluation(data_file(params), parse_recipe(params.augment), choose_device(params.threads))
    return added_students(params.compare.add[name], added_file(name), on, params.named_models)


def grid(params: Params) -> dict[str, dict[str, RunFile]]:
    """Return the runs of every pair of teacher and student in the comparison, by `teacher -> student`."""
    return {
        f"{teacher}{ARROW}{student}": {run: run_of(params, run, teacher, student) for run in params.compare.runs}
        for teacher, student in params.pairs
    }


def left_over(params: Params) -> list[Path]:
    """Return the files of runs that left the comparison: nothing removes them, and DVC's `table` depends on their folder."""
    runs = {run.path for pair in grid(params).values() for run in pair.values()}
    return sorted({*(COMPARISON / "runs").rglob("*.safetensors")} - runs - {*map(added_file, params.compare.add)})


def run_of(params: Params, run: str, teacher: str, student: str) -> RunFile:
    """Return a run of a pair of teacher and student."""
    options = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
    settings, command = params.variant(run, teacher, student), f"prepkd compare --run '{run}'{options}"
    teachers = teacher_folders(settings.teacher_names)  # the run's own, which may differ from the pair's
    stores = {name: store_url(params, name) for name in teachers}
    return RunFile(settings, teachers, stores, run_file(run, teacher, student), command, partial(trained_on, params))


def measure_added(params: Params, name: str) -> None:
    """Write the test logits of the students of `compare.add` or `--add` under this name."""
    if name not in params.compare.add:
        known = ", ".join(params.compare.add) or "it is empty"
        raise InputError(f"--measure is {name!r}; expected a key of compare.add, or a name of --add: {known}")
    with writing(run_output(added_file(name))):
        found = added(params, name)
    say(
        f"{added_file(name)}: seed{'s' if len(found.logits) > 1 else ''} {', '.join(map(str, found.logits))} of {found.student}"
    )
    show({"added": name, "student": found.student, "seeds": list(found.logits), "file": str(added_file(name))})
