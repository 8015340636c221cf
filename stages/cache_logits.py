"""cache-logits: a teacher and the training images -> the logit store, data/logits/NAME.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.data.prepared.file import describe
from prepkd.models.agreement import SKILL
from prepkd.stages._caching import Shown, write_logits, write_logits_on_ray
from prepkd.stages._console import console, progress, say
from prepkd.stages._engines import Engine, EngineOption, NumGpus, refuse_without_ray
from prepkd.stages._options import Overrides, ParamsFile, Replace, known_teacher, may_replace, read_params
from prepkd.stages._project import data_file, store_url
from prepkd.store.own import refuse_foreign_store


def cache_logits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` or `generations`.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    views: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Override cache.views: how many views, or 'all'.")
    ] = None,
    replace: Replace = False,
    engine: EngineOption = Engine.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --engine ray: actors; else as many as the cluster holds.")
    ] = None,
    num_gpus: NumGpus = None,
) -> None:
    """Write the teacher's logits for every view of every training sample to `data/logits/NAME.zarr`.

    Killed? Run the same command again: finished chunks are kept, and the bytes are those of an uninterrupted run.
    """
    params = read_params(params_file, overrides, cache__views=views)
    known_teacher(params, name)
    refuse_without_ray(engine, workers=workers, num_gpus=num_gpus)
    url, may = store_url(params, name), may_replace(replace)
    refuse_foreign_store(url)
    with progress() as bar:
        if engine is Engine.RAY:
            written = write_logits_on_ray(params, name, may, Shown(bar, name), workers, num_gpus)
        else:
            written = write_logits(params, name, may, Shown(bar, name))
    classes = len(describe(data_file(params)).class_names)
    if 1 - written.summary["teacher_error"] < 1 / classes + SKILL * (1 - 1 / classes):
        line = f"warning: {url}: hardly better than chance; `{params.command_of(name)}` says likely causes"
        say(line)
    if written.chunks is None:
        console.print(f"{url}: already finished; {written.describe()}")
    else:
        console.print(f"{url}: {written.chunks} chunks written in {written.seconds:,.1f} s")
        console.print(f"{url}: {written.describe()}")
    console.print(f"{url}: sha256 of its manifest {written.sha256}")
