"""cache-features: a teacher and the training images -> a store per entry, data/features/NAME/ENTRY.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.distillation.feature_supply import teacher_entries
from prepkd.methods.entries import chosen_entries
from prepkd.project.outputs import entry_plan
from prepkd.provenance.teacher_files import load_teacher
from prepkd.runtime.files import write_json
from prepkd.stages._console import say, show
from prepkd.stages._dataset import read_dataset
from prepkd.stages._destination import destination
from prepkd.stages._options import (
    AsJson,
    Overrides,
    ParamsFile,
    Quiet,
    Replace,
    known_teacher,
    may_replace,
    read_params,
)
from prepkd.stages._project import writing
from prepkd.stages._summary import store_figures, written_tables
from prepkd.stages._teachers import teacher_files
from prepkd.store.ownership import refuse_foreign_store
from prepkd.teacher import feature_caching as caching


def cache_features(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` or `generations`.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    only: Annotated[
        str | None, typer.Option(metavar="ENTRY", help="One entry of cache.features; all of them if not given.")
    ] = None,
    generation: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For the student of this key of `generations`; else for distill.student."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print the bytes, write each entry's description to data/asked/NAME/ENTRY.json, cache nothing.",
        ),
    ] = False,
    replace: Replace = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the features that `cache.features` lists, for every view of every training sample, to `data/features/NAME/`.

    An entry is a feature term, such as `at`, stored in the size that the student needs, or a named feature, such as `pooled`,
    stored unchanged. The bytes are printed first. Killed? Run the same command again: finished chunks are kept.
    """
    params = read_params(params_file, overrides)
    known_teacher(params, name)
    params.refuse_imported(name)
    settings, taught = params.cache, params.student_settings_of(name, generation)
    names = chosen_entries(settings.features, only)
    for one in names:
        refuse_foreign_store(settings.feature_url(name, one))
    plans = [Path(f"data/asked/{name}/{one}.json") for one in names] if plan else []
    with writing(*map(entry_plan, plans)):
        dataset = read_dataset(params, settings.views, settings.seed)
        teacher = load_teacher(name, teacher_files(params, name), dataset)
        entries = teacher_entries(taught, names, teacher.model, dataset)
        for entry in [] if plan or may_replace(replace) else entries:
            caching.refuse_other_features(settings.feature_url(name, entry.name), teacher, dataset, settings, entry)
        for entry in entries:
            say(caching.store_cost(entry, dataset.plan.views, dataset.plan.samples))
        for path, entry in zip(plans, entries, strict=False):
            write_json(path, entry.describe())
    stores = []
    for entry in [] if plan else entries:
        url = settings.feature_url(name, entry.name)
        with destination(url, f"{entry.name} of {name}", replace=replace) as place:
            written = caching.cache_features(teacher, dataset, settings, entry, place)
        for line in written.report(url):
            say(line)
        stores.append(store_figures(url, written))
    asked_of = {one.name: one.describe() for one in entries}
    show({"teacher": name, "entries": asked_of, "stores": stores}, *written_tables(stores))
