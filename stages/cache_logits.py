"""cache-logits: a teacher and the training images -> data/logits/NAME.zarr."""

import time
from pathlib import Path
from typing import Annotated

import typer
from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    advance,
    console,
    known_teacher,
    progress,
    read_lesson,
    read_params,
    scratch,
    store_folder,
    teacher_folder,
)


def cache_logits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` in params.yaml.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    views: Annotated[str | None, typer.Option(help="Override cache.views: a count, or 'all'.")] = None,
) -> None:
    """Write the teacher's logits for every view of every training sample to `data/logits/NAME.zarr`.

    Killed? Run the same command again: finished chunks are kept, and the bytes are those of an uninterrupted run.
    """
    params = read_params(params_file, overrides, cache__views=views)
    known_teacher(params, name)
    from prepkd.caching import estimate_seconds, plan_store, teacher_answers
    from prepkd.files import publish
    from prepkd.models import load_checkpoint
    from prepkd.store.writer import StoreWriter

    settings, path = params.cache, store_folder(name)
    lesson, inputs = read_lesson(params, settings.views, settings.seed)
    images = lesson.samples.images
    hint = f"run `prepkd train-teacher {name}`"
    teacher, card = load_checkpoint(teacher_folder(name), device=images.device, hint=hint)
    layout, attributes, fingerprint = plan_store(settings, lesson, inputs, teacher, card | {"name": name})
    if finished := already_written(path, attributes):
        console.print(f"{path}: already finished; {finished}")
        return
    with scratch(fingerprint) as work, progress() as bar:
        writer = StoreWriter(work / "store.zarr", layout, attributes)
        pending = list(writer.pending())
        answers = teacher_answers(teacher, lesson, settings)
        seconds = estimate_seconds(answers, layout, pending, settings.batch_size)
        console.print(
            f"{layout.plan.views} views x {layout.plan.samples:,} samples x {layout.classes} classes: "
            f"{layout.bytes / 1e6:,.1f} MB, {layout.bytes_per_row} bytes a (view, sample); about {seconds:,.0f} s to go"
        )
        total = layout.plan.views * layout.chunks
        task = bar.add_task(f"logits of {name}", total=total, completed=total - len(pending), note="")
        started = time.perf_counter()
        for view, chunk in pending:
            writer.write(view, chunk, answers)
            advance(bar, task)
        seconds = time.perf_counter() - started
        summary = writer.finish(lesson.samples.labels.cpu().numpy())
        publish(work / "store.zarr", path)
    console.print(f"{path}: {len(pending)} chunks written in {seconds:,.1f} s")
    console.print(f"{path}: the teacher is wrong on {summary['teacher_error']:.2%} of the training views: KA's share")


def already_written(path: "object", attributes: "dict[str, object]") -> str | None:
    """What a finished store of the same attributes holds; None where there is none."""
    from prepkd.errors import InputError
    from prepkd.store import LogitStore

    try:
        store = LogitStore.open(str(path))
        if store.attributes != attributes:
            return None
        for view in range(store.views):
            store.slab(view)  # every byte is checked as it is read
    except InputError:
        return None  # missing, unfinished or damaged: it is written anew and replaced at the end
    return f"the teacher is wrong on {store.summary['teacher_error']:.2%} of the training views: KA's share"
