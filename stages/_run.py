"""Train a run of the comparison: all seeds, or one seed as a task."""

from functools import partial
from typing import Any

from prepkd.data.prepared.file import load_split
from prepkd.display.text import counted
from prepkd.distillation.finished_students import refuse_other_run
from prepkd.distillation.run_results import run_results
from prepkd.project.outputs import run_output
from prepkd.project.params import Params, from_plain
from prepkd.stages._comparison import run_file, run_of
from prepkd.stages._console import progress, say
from prepkd.stages._dataset import cached_views
from prepkd.stages._progress import TrainingProgress
from prepkd.stages._project import data_file, training
from prepkd.stages._students import described, students
from prepkd.stages._summary import Students
from prepkd.training.predictions import write_results
from prepkd.training.stopping import kept_epoch
from prepkd.views import parse_recipe


def train_run(params: Params, run: str, teacher: str, student: str, replace: bool) -> None:
    """Train one run over all seeds, and write the students' test logits."""
    settings, path = params.variant(run, teacher, student), run_file(run, teacher, student)
    with training(run_output(path)), progress() as bar:
        shown, figures = TrainingProgress(bar, run, settings.seed_list, settings.epochs), Students()
        test, recipe = load_split(data_file(params), "test"), parse_recipe(params.augment)
        refuse = None if replace else partial(refuse_other_run, path, settings, test_fingerprint=test.fingerprint)
        dataset = cached_views(params)
        inputs = shown.started(described(settings, dataset), refuse)
        with students(params, settings, dataset, shown.epoch, inputs, on_step=shown.step) as trained:
            found = run_results(run, figures.noted(trained, partial(kept_epoch, settings)), test, recipe)
            write_results(path, found.logits, found.made_from)
    say(f"{path}: {counted(len(found.logits), 'seed')}; `prepkd compare` makes the table")
    figures.show(f"Run {run}", {"run": run, "teacher": teacher, "student": student, "file": str(path)})


def train_seed(
    settings_of_all: dict[str, Any], name: str, text: str, teacher: str, student: str, seed: int, replace: bool
) -> tuple[Any, dict[str, Any]]:
    """Train one seed of a run for a pair of teacher and student, as the task `name`.

    Returns its test logits (N, K) and the inputs that they were made from.
    """
    params = from_plain(settings_of_all)
    run = run_of(params, text, teacher, student)
    settings, test = run.settings.model_copy(update={"seeds": [seed]}), load_split(data_file(params), "test")

    refuse = partial(refuse_other_run, run.path, run.settings, test_fingerprint=test.fingerprint)
    with progress() as bar:
        shown, dataset = TrainingProgress(bar, name, [seed], settings.epochs), cached_views(params)
        inputs = None if replace else refuse
        with students(params, settings, dataset, shown.epoch, inputs, on_step=shown.step) as trained:
            found = run_results(text, trained, test, parse_recipe(params.augment))
    return found.logits[seed].numpy(), found.made_from
