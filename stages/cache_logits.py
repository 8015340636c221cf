"""cache-logits: a teacher and the training images -> the logit store, data/logits/NAME.zarr or a URL."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prepkd.errors import InputError
from prepkd.runtime.scratch import is_awaited
from prepkd.stages._console import advance, console, progress
from prepkd.stages._dataset import read_dataset
from prepkd.stages._project import Overrides, ParamsFile, known_teacher, read_params, scratch, store_url, teacher_folder
from prepkd.verification.provenance import check_card, check_given

if TYPE_CHECKING:
    from prepkd.store.attributes import Attributes
    from prepkd.store.layout import Layout
    from prepkd.store.writer import StoreWriter


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
    settings, url = params.cache, store_url(params, name)
    dataset, inputs = read_dataset(params, settings.views, settings.seed)  # first: it reads while torch is imported
    from prepkd.models import load_checkpoint
    from prepkd.runtime.prefetch import overlap
    from prepkd.teacher.caching import make_trial, plan_store, teacher_answers

    hint = f"run `prepkd train-teacher {name}`"
    teacher, card = load_checkpoint(teacher_folder(name), device=dataset.samples.device, hint=hint)
    check_card(card, dataset, inputs, teacher_folder(name))
    check_given(card, params.teachers[name].weights, teacher_folder(name))
    trial = make_trial(teacher, dataset, settings)
    layout, attributes, fingerprint = plan_store(settings, dataset, inputs, card | {"name": name}, trial)
    if finished := already_written(url, attributes):
        console.print(f"{url}: already finished; {finished}")
        return
    with unfinished(url, fingerprint, layout, attributes) as writer, progress() as bar:
        pending = list(writer.pending())
        measured = attributes.measured
        assert measured is not None
        console.print(
            f"{layout.plan.views} views x {layout.plan.samples:,} samples x {layout.encoding.classes} classes: "
            f"{layout.plan.views * layout.plan.samples * measured.bytes_per_row / 1e6:,.1f} MB, "
            f"{measured.bytes_per_row:g} bytes a (view, sample), {settings.encoding}, "
            f"KL at tau 4 {measured.kl_mean['4']:.1e}; "
            f"about {trial.estimate(layout, pending, settings.batch_size):,.0f} s to go"
        )
        total = layout.plan.views * layout.chunks
        task = bar.add_task(f"logits of {name}", total=total, completed=total - len(pending), note="")
        answers = partial(teacher_answers, teacher, dataset, layout.encoding, settings)
        started = time.perf_counter()
        made = ((view, chunk, answers(view, layout.slice(chunk))) for view, chunk in pending)
        # A chunk reaches the disk while the teacher answers the next one.
        for _ in overlap(lambda part: writer.write(*part), made):
            advance(bar, task)
        seconds = time.perf_counter() - started
        summary = writer.finish(dataset.labels)
    console.print(f"{url}: {len(pending)} chunks written in {seconds:,.1f} s")
    console.print(f"{url}: the teacher is wrong on {summary['teacher_error']:.2%} of the training views: KA's share")


@contextlib.contextmanager
def unfinished(url: str, fingerprint: str, layout: "Layout", attributes: "Attributes") -> "Iterator[StoreWriter]":
    """A writer that goes on where another left; on success the store is in its place.

    A local store grows in scratch, under a lock, and moves to its path last. A bucket has no rename: there it grows in its
    place, without a manifest and so refused by readers, and a store that stood there loses its manifest first.
    """
    from prepkd.runtime.files import publish
    from prepkd.store.layout import MANIFEST
    from prepkd.store.place import clear, delete, is_remote, open_place
    from prepkd.store.writer import StoreWriter

    with scratch(fingerprint) as work:
        if is_remote(url):
            store = open_place(url, write=True)
            if not already_written(url, attributes):  # by whom this process waited for, and read by others since
                delete(store, MANIFEST)
            try:
                writer = StoreWriter(store, layout, attributes, url)
            except InputError:  # chunks of another store: its manifest is gone, and so is what it stood for
                clear(store)
                writer = StoreWriter(store, layout, attributes, url)
            yield writer
        else:
            yield StoreWriter(open_place(work / "store.zarr", write=True), layout, attributes, work / "store.zarr")
            publish(work / "store.zarr", Path(url), keep=is_awaited(work))


def already_written(url: str, attributes: "Attributes") -> str | None:
    """What a finished store of the same fingerprints holds; None where there is none."""
    from prepkd.store import LogitStore

    try:
        store = LogitStore.open(url)
        if not store.attributes.same_store(attributes):
            return None
        for view in range(store.views):
            store.stored(view)  # every byte is checked as it is read
    except InputError:
        return None  # missing, unfinished or damaged: it is written anew and replaced at the end
    return f"the teacher is wrong on {store.summary['teacher_error']:.2%} of the training views: KA's share"
