"""Training students: one run a seed, differing from each other in the seed alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from prepkd.data.samples.dataset import Dataset
from prepkd.losses import distillation_loss
from prepkd.models import Normalised
from prepkd.models.new import new_model
from prepkd.runtime.files import fingerprint
from prepkd.tracking.loggers import Run, Write
from prepkd.training.batches import Answering
from prepkd.training.checkpoints import Row
from prepkd.training.loop import train
from prepkd.training.student_settings import Distill
from prepkd.views import ViewPlan
from prepkd.views.order import VIEW_ORDERS

# Part of every run's fingerprint: raise it when the loop's arithmetic changes, so that no old checkpoint is resumed.
TRAINING_VERSION = 1


def train_students(
    settings: Distill,
    dataset: Dataset,
    teacher: Answering | None,
    *,
    inputs: Mapping[str, object],
    scratch: Callable[[str], Path],
    on_epoch: Callable[[int, Row], None],
    logged: Callable[[Run], AbstractContextManager[Write]],
) -> Iterator[tuple[int, Normalised, list[Row]]]:
    """Train a student for each seed; yields (seed, model, history), each seed's work kept in `scratch(fingerprint)`.

    Each is a run of its own for `logged`; `inputs` are the fingerprints of what the students are trained from. A seed that
    was finished before an interruption is loaded, not trained again.
    """
    taught = settings.parsed.teacher
    order = VIEW_ORDERS[settings.view_order]
    kept = settings.identity(but={"seeds", "resident_gib", "checkpoint_every"})
    runs = {
        seed: fingerprint({"version": TRAINING_VERSION, "settings": kept, "seed": seed, "inputs": dict(inputs)})
        for seed in settings.seed_list
    }
    # In an order that all processes share: two with seeds in common wait for one another, and never each for the other.
    folders = {run: scratch(run) for run in sorted(runs.values())}
    for seed, run in runs.items():
        model = new_model(settings.student, dataset, seed)
        described = settings.model_dump(mode="json") | {"seed": seed}
        with logged(Run(f"{settings.method}-seed{seed}", run, described)) as write:
            history = train(
                model,
                settings,
                partial(distillation_loss, settings),
                samples=dataset.samples,
                held_out=dataset.held_out,
                plan=dataset.plan,
                classes=dataset.classes,
                views_of=partial(_views, order, seed, dataset.plan),
                teacher=teacher if taught else None,
                seed=seed,
                checkpoint=folders[run] / "checkpoint.pt",
                on_epoch=partial(_report, write, partial(on_epoch, seed)),
            )
        yield seed, model, history


def _views(order: Callable[..., int], seed: int, plan: ViewPlan, epoch: int) -> int:
    return order(seed, epoch, plan.views, plan.samples)


def _report(write: Write, on_epoch: Callable[[Row], None], row: Row) -> None:
    on_epoch(row)
    write(row)
