"""cache-logits: a teacher and the training images -> the logit store, data/logits/NAME.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.models.agreement import SKILL
from prepkd.provenance.teacher_files import load_teacher
from prepkd.stages._console import advance, console, progress, say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._options import Overrides, ParamsFile, Replace, known_teacher, may_replace, read_params
from prepkd.stages._project import scratch_root, store_url
from prepkd.stages._teachers import teacher_files
from prepkd.store.own import refuse_foreign_store
from prepkd.teacher import caching


def cache_logits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` or `generations`.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    views: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Override cache.views: how many views, or 'all'.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Write the teacher's logits for every view of every training sample to `data/logits/NAME.zarr`.

    Killed? Run the same command again: finished chunks are kept, and the bytes are those of an uninterrupted run.
    """
    params = read_params(params_file, overrides, cache__views=views)
    known_teacher(params, name)
    settings, url = params.cache, store_url(params, name)
    refuse_foreign_store(url)
    dataset, inputs = read_dataset(params, settings.views, settings.seed, strong=params.augment_strong)
    teacher, card = load_teacher(teacher_files(params, name), dataset, inputs)
    with progress() as bar:
        task = bar.add_task(f"logits of {name}", start=False, total=None, visible=False, note="")

        def start(work: caching.Work) -> None:
            console.print(work.describe())
            if work.doubt:
                say(f"warning: {work.doubt}")
            bar.update(task, total=work.chunks, completed=work.chunks - work.pending, visible=True)
            bar.start_task(task)

        written = caching.cache_logits(
            teacher,
            card | {"name": name},
            dataset,
            inputs,
            settings,
            url,
            scratch_root(),
            replace=may_replace(replace),
            on_wait=say,
            on_start=start,
            on_chunk=lambda: advance(bar, task),
        )
    if 1 - written.summary["teacher_error"] < 1 / dataset.classes + SKILL * (1 - 1 / dataset.classes):
        line = f"warning: {url}: hardly better than chance; `{params.command_of(name)}` says likely causes"
        say(line)
    if written.chunks is None:
        console.print(f"{url}: already finished; {written.describe()}")
    else:
        console.print(f"{url}: {written.chunks} chunks written in {written.seconds:,.1f} s")
        console.print(f"{url}: {written.describe()}")
    console.print(f"{url}: sha256 of its manifest {written.sha256}")
