"""cache-features: a teacher and the training images -> what cache.features names, data/features/NAME/ENTRY.zarr or URLs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prepkd.errors import InputError
from prepkd.methods.entries import Entry, make_entries
from prepkd.models.given_folder import preprocessing_of
from prepkd.models.new import untrained_model
from prepkd.project.outputs import asked
from prepkd.project.params import Params
from prepkd.provenance.teacher_files import load_teacher
from prepkd.runtime.files import write_json
from prepkd.stages._console import advance, progress, say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._options import Overrides, ParamsFile, Replace, known_teacher, may_replace, read_params
from prepkd.stages._project import scratch_root, writing
from prepkd.stages._teachers import teacher_files
from prepkd.store.own import refuse_foreign_store
from prepkd.teacher import feature_caching as caching

if TYPE_CHECKING:
    from prepkd.distillation.student_settings import Distill


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
            "--plan", help="Print the bytes, write what is asked to data/asked/NAME/ENTRY.json, cache nothing."
        ),
    ] = False,
    replace: Replace = False,
) -> None:
    """Write what `cache.features` names, for every view of every training sample, to `data/features/NAME/`.

    An entry is a feature term, as `at`: what it asks of the teacher, in the size that the student needs; or a named feature, as
    `pooled`: as it is. The bytes are printed first. Killed? Run the same command again: finished chunks are kept.
    """
    params = read_params(params_file, overrides)
    known_teacher(params, name)
    settings, listed, taught = params.cache, params.cache.features, _taught(params, name, generation)
    names = [entry for entry in listed if only in (None, entry)]
    if not names:
        said = f"--only is {only!r}; expected an entry of cache.features: {', '.join(listed)}"
        raise InputError(
            said if listed else "cache.features is empty; name feature terms, as at, or features, as pooled"
        )
    for one in names:
        refuse_foreign_store(settings.feature_url(name, one))
    plans = [Path(f"data/asked/{name}/{one}.json") for one in names] if plan else []
    with writing(*map(asked, plans)):
        dataset, inputs = read_dataset(params, settings.views, settings.seed)
        teacher, card = load_teacher(teacher_files(params, name), dataset, inputs)
        given = preprocessing_of(taught.weights, taught.own_preprocessing)
        student = untrained_model(taught.student, dataset, given)
        entries = make_entries(taught.entry_terms(names), student, teacher, dataset.samples.size)
        card = card | {"name": name}
        for entry in [] if plan or may_replace(replace) else entries:
            caching.refuse_other_features(
                settings.feature_url(name, entry.name), settings, dataset, inputs, card, entry
            )
        for entry in entries:
            say(caching.cost(entry, dataset))
        for path, entry in zip(plans, entries, strict=False):
            write_json(path, entry.describe())

    def write(entry: Entry, url: str) -> None:
        with progress() as bar:
            task = bar.add_task(f"{entry.name} of {name}", start=False, total=None, visible=False, note="")

            def start(work: caching.FeatureWork) -> None:
                say(f"{url}: about {work.seconds:,.0f} s to go")
                bar.update(task, total=work.chunks, completed=work.chunks - work.pending, visible=True)
                bar.start_task(task)

            written = caching.cache_features(
                teacher,
                card,
                dataset,
                inputs,
                settings,
                entry,
                url,
                scratch_root(),
                replace=may_replace(replace),
                on_wait=say,
                on_start=start,
                on_chunk=lambda: advance(bar, task),
            )
        took = f"{written.chunks} chunks written in {written.seconds:,.1f} s"
        say(f"{url}: {'already finished' if written.chunks is None else took}")
        say(f"{url}: sha256 of its manifest {written.sha256}")

    for entry in [] if plan else entries:
        write(entry, settings.feature_url(name, entry.name))


def _taught(params: Params, name: str, generation: str | None) -> "Distill":
    """The settings of the student for which features are cached; raises InputError for a generation of another teacher."""
    if generation is None:
        return params.distill
    if generation not in params.generations:
        known = ", ".join(params.generations) or "it is empty"
        raise InputError(f"--generation is {generation!r}; expected a key of generations: {known}")
    if (teacher := params.generations[generation].teacher) != name:
        raise InputError(
            f"--generation is {generation!r}, whose teacher is {teacher!r}; expected a generation of {name!r}"
        )
    return params.generations[generation].as_student
