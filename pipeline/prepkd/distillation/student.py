"""Train one student per seed; only the seed differs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student_settings import WITHOUT_EFFECT, Distill
from prepkd.methods.objective import Objective
from prepkd.models import Normalised
from prepkd.runtime.files import fingerprint
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.tracking.loggers import Run, Write
from prepkd.training.batches import Epochs, TeacherAnswers
from prepkd.training.checkpoints import TRAINING_VERSION, Row
from prepkd.training.context import RunContext
from prepkd.training.initial import initial_model
from prepkd.training.loop import train
from prepkd.views import ViewPlan
from prepkd.views.order import VIEW_ORDERS, Views


def train_students(
    settings: Distill,
    dataset: Dataset,
    teacher: TeacherAnswers | None,
    *,
    objective: Callable[[], Objective] | None = None,
    inputs: Mapping[str, object],
    scratch: Callable[[str], Path],
    context: RunContext,
) -> Iterator[tuple[int, Normalised, list[Row]]]:
    """Train a student for each seed; yield (seed, model, history). Each seed's work is kept in `scratch(fingerprint)`.

    `objective` makes a new objective per seed, by default the settings' terms without features. Each seed is a run of its own
    for the loggers. With two views per step, steps also show the strong views of the data's plan, which `teacher` answers too;
    otherwise only the weak ones. `inputs` are the fingerprints of the data, the teachers and given weights. A seed that was
    finished before an interruption is loaded, not trained again.
    """
    strong = dataset.plan.strong if settings.views_per_step == 2 else None
    dataset = replace(dataset, plan=dataset.plan.weak)
    make = objective or partial(Objective, settings.terms)
    asked = teacher if settings.parsed_method.needs_teacher else None
    kept = settings.used(but=WITHOUT_EFFECT)
    runs = {
        seed: fingerprint({"version": TRAINING_VERSION, "settings": kept, "seed": seed, "inputs": dict(inputs)})
        for seed in settings.seed_list
    }
    # Sorted: two processes with seeds in common lock them in the same order, so they wait without a deadlock.
    folders = {run: scratch(run) for run in sorted(runs.values())}
    for seed, run in runs.items():
        model, _ = initial_model(settings.student, settings, dataset, seed, Purpose.STUDENT_WEIGHTS)
        described = settings.model_dump(mode="json") | {"seed": seed}
        with context.logged(Run(f"{settings.method}-seed{seed}", run, described)) as write:
            history = train(
                model,
                seeded(make, seed).to(dataset.samples.device),
                dataset,
                Epochs(
                    dataset,
                    partial(_views, settings.view_order, seed, dataset.plan),
                    seed,
                    asked,
                    draws=settings.terms,
                    strong=strong,
                ),
                settings,
                checkpoint=folders[run] / "checkpoint.pt",
                on_epoch=partial(_report, write, partial(context.on_epoch, seed)),
                on_step=partial(context.on_step, seed),
            )
        yield seed, model, history


def seeded(make: Callable[[], Objective], seed: int) -> Objective:
    """Make an objective whose adapters are initialised from the run's seed; torch's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):  # modules are made on the CPU
        torch.default_generator.manual_seed(torch_seed(seed, Purpose.ADAPTER_WEIGHTS.stream()))
        return make()


def _views(order: str, seed: int, plan: ViewPlan, epoch: int) -> Views:
    return VIEW_ORDERS[order].views_of(seed, epoch, plan.views, plan.samples)


def _report(write: Write, on_epoch: Callable[[Row], None], row: Row) -> None:
    on_epoch(row)
    write(row)
