"""cache-logits: a teacher and the training images -> the logit store, data/logits/NAME.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.provenance.teacher_files import load_teacher
from prepkd.stages._console import say
from prepkd.stages._dataset import cached_views
from prepkd.stages._destination import destination
from prepkd.stages._options import Overrides, ParamsFile, Replace, known_teacher, read_params
from prepkd.stages._project import store_url
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
    dataset = cached_views(params)
    teacher = load_teacher(name, teacher_files(params, name), dataset)
    with destination(url, f"logits of {name}", replace=replace) as place:
        written = caching.cache_logits(teacher, dataset, settings, place)
    if caching.hardly_better_than_chance(written, dataset.classes):
        say(f"warning: {url}: hardly better than chance; `{params.command_of(name)}` says likely causes")
    for line in written.report(url):
        say(line)
