"""train-generation: data/<dataset>.h5 and data/logits/TEACHER.zarr -> models/teachers/NAME/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from prepkd.data.prepared.file import load_split
from prepkd.distillation.generation_run import refuse_other_generation, write_generation
from prepkd.errors import InputError
from prepkd.project.outputs import teacher
from prepkd.stages._console import advance, console, epoch_note, progress, say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._devices import use_devices
from prepkd.stages._options import Overrides, ParamsFile, Replace, may_replace, read_params
from prepkd.stages._project import data_file, teacher_folder, training
from prepkd.stages._students import students_on


def train_generation(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `generations` in params.yaml.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    epochs: Annotated[int | None, typer.Option(help="Override generations.NAME.epochs.")] = None,
) -> None:
    """Train a teacher that learns from another teacher's cached logits; writes `models/teachers/NAME/`.

    It is afterwards a teacher like any other. The same settings and seed under `distill` give the same weights. Killed? Run the
    same command again: it resumes.
    """
    known = read_params(params_file, overrides).generations
    if name not in known:
        raise InputError(f"generation is {name!r}; expected a key of generations: {', '.join(known) or 'it is empty'}")
    params = read_params(params_file, overrides, **{f"generations.{name}.epochs": epochs})
    use_devices(params)
    settings, folder = params.generations[name], teacher_folder(name)

    def on_inputs(inputs: Mapping[str, Any]) -> None:
        if not may_replace(replace):
            refuse_other_generation(folder, settings, inputs)

    with training(teacher(folder)), progress() as bar:
        data = read_dataset(params, params.cache.views, params.cache.seed, strong=params.augment_strong)
        task = bar.add_task(f"generation {name}", total=settings.epochs, note="")

        def on_epoch(_: int, row: dict[str, float]) -> None:
            advance(bar, task, epoch_note(row))

        with students_on(data, params, settings.as_student, on_epoch, on_inputs, generation=name) as trained:
            (one,) = trained
            card = write_generation(
                folder,
                name,
                settings,
                one,
                data[0],
                teacher=teacher_folder(settings.teacher),
                test_fingerprint=load_split(data_file(params), "test").fingerprint,
                say=say,
            )
    console.print(f"{folder}: {settings.student} taught by {settings.teacher}, test top-1 {card['test_top1']:.2%}")
