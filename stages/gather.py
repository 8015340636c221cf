"""gather: the stores that students are trained from -> data/lesson.json, or data/lessons/ for the comparison."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from prepkd.display.text import counted
from prepkd.project.outputs import lesson, lessons
from prepkd.project.params import Params
from prepkd.runtime.files import atomic_folder, write_json
from prepkd.stages._console import console
from prepkd.stages._options import Overrides, ParamsFile, QuietAlone, known_teacher, read_params
from prepkd.stages._project import store_url, writing
from prepkd.store.identity import identities, identity

LESSON, LESSONS = Path("data/lesson.json"), Path("data/lessons")


def gather(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    teachers: Annotated[
        str | None,
        typer.Option(metavar="NAME[+NAME...]", help="The comparison's runs with these teachers, to data/lessons/."),
    ] = None,
    quiet: QuietAlone = False,
) -> None:
    """Check that the teachers' stores have one view plan; writes their identities to `data/lesson.json`.

    DVC's `distill` depends on that small file: adding a teacher that is not used makes no student out of date. With `--teachers`
    one such file per run of the comparison is written, to `data/lessons/NAME/`.
    """
    params = read_params(params_file, overrides)
    if teachers:
        write_lessons(params, teachers)
        return
    with writing(lesson(LESSON)):
        found = lesson_of(params, identity)
        write_json(LESSON, found)
    console.print(f"{LESSON}: {', '.join(found['teachers']) or 'no teacher'}", markup=False)


def write_lessons(params: Params, teachers: str) -> None:
    """Write the lesson of every run of the comparison with these teachers, `data/lessons/TEACHERS/RUN.json`.

    A run may name teachers of its own. A lesson of a run that is not in the comparison any more is removed.
    """
    for name in teachers.split("+"):
        known_teacher(params, name)
    read = cache(identity)  # several runs learn from one store
    with writing(lessons(folder := LESSONS / teachers)), atomic_folder(folder) as temporary:
        for run in params.compare.runs:
            write_json(temporary / f"{run}.json", lesson_of(params, read, run, teachers))
    console.print(f"{folder}: {counted(len(params.compare.runs), 'run')}", markup=False)


def lesson_of(
    params: Params, read: Callable[..., dict[str, Any]], run: str | None = None, teachers: str | None = None
) -> dict[str, Any]:
    """Return the identities of the stores that a run of the comparison learns from, without a run the students of `distill`.

    `read` is `identity`, or remembers its results. Raises InputError.
    """
    settings = params.variant(run, teachers) if run else params.distill
    names = settings.teacher_names if settings.parsed_method.needs_teacher else []
    stores = identities({known_teacher(params, name): store_url(params, name) for name in names}, read)
    features = {
        f"{name}/{entry}": read(params.cache.feature_url(name, entry), name, "cache-features")
        for name in names
        for entry in settings.entries_read(params.cache.features)
        if settings.source == "cached"
    }
    return {"teachers": stores} | ({"features": features} if features else {})
