"""cache-logits: a teacher and the training images -> the logit store, data/logits/NAME.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.data.prepared.file import describe
from prepkd.engines.engine import Engine, refuse_without_ray
from prepkd.stages._caching import write_logits, write_logits_on_ray
from prepkd.stages._console import say, show
from prepkd.stages._destination import destination
from prepkd.stages._options import (
    AsJson,
    EngineOption,
    NumGpus,
    Overrides,
    ParamsFile,
    Quiet,
    Replace,
    known_teacher,
    may_replace,
    read_params,
)
from prepkd.stages._project import data_file, store_url
from prepkd.stages._summary import store_figures, written_tables
from prepkd.stages._teachers import note_other_settings
from prepkd.store.ownership import refuse_foreign_store
from prepkd.teacher.caching import hardly_better_than_chance


def cache_logits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` or `generations`.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    views: Annotated[
        str | None,
        typer.Option(
            metavar="COUNT",
            help="Override cache.views: how many views, or 'all'. Later stages need the same: better set it in params.yaml.",
        ),
    ] = None,
    replace: Replace = False,
    engine: EngineOption = Engine.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --engine ray: actors; else as many as the cluster holds.")
    ] = None,
    num_gpus: NumGpus = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the teacher's logits for every view of every training sample to `data/logits/NAME.zarr`.

    Killed? Run the same command again: finished chunks are kept, and the bytes are those of an uninterrupted run.
    """
    params = read_params(params_file, overrides, cache__views=views)
    known_teacher(params, name)
    params.refuse_imported(name)
    note_other_settings(params, name)
    refuse_without_ray(engine, workers=workers, num_gpus=num_gpus)
    url = store_url(params, name)
    refuse_foreign_store(url)
    if engine is Engine.RAY:
        written = write_logits_on_ray(params, name, may_replace(replace), workers, num_gpus)
    else:
        with destination(url, f"logits of {name}", replace=replace) as place:
            written = write_logits(params, name, place)
    if hardly_better_than_chance(written, len(describe(data_file(params)).class_names)):
        say(f"warning: {url}: hardly better than chance; `{params.command_of(name)}` says likely causes")
    for line in written.report(url):
        say(line)
    figures = store_figures(url, written)
    show(figures, *written_tables([figures]))
