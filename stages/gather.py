"""gather: the stores that a student is trained from -> data/lesson.json."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.project.outputs import lesson
from prepkd.project.params import Params
from prepkd.runtime.files import write_json
from prepkd.stages._console import console
from prepkd.stages._options import Overrides, ParamsFile, Quiet, known_teacher, read_params
from prepkd.stages._project import store_url, writing
from prepkd.store.identity import identities, identity

LESSON = Path("data/lesson.json")


def gather(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    teachers: Annotated[
        str | None, typer.Option(metavar="NAME[+NAME...]", help="These teachers, to data/lessons/; else distill's.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Check that the teachers' stores have one view plan; writes their identities to `data/lesson.json`.

    DVC's `distill` depends on that small file: adding a teacher that is not used makes no student out of date.
    """
    write_lesson(read_params(params_file, overrides), teachers)


def write_lesson(params: Params, teachers: str | None) -> None:
    """Write the store identities of these teachers to `data/lessons/`; without teachers, distill's to `data/lesson.json`."""
    names, methods = params.distill.teacher_names, [params.distill]
    if teachers:  # add the teachers that runs of the comparison name themselves
        methods = [params.variant(run, teachers) for run in params.compare.runs]
        own = [name for method in methods for name in method.teacher_names]
        names = list(dict.fromkeys([*teachers.split("+"), *own]))
    path = Path("data/lessons") / f"{teachers}.json" if teachers else LESSON
    with writing(lesson(path)):
        stores = identities({known_teacher(params, name): store_url(params, name) for name in names})
        features = {
            f"{name}/{entry}": identity(params.cache.feature_url(name, entry), name, "cache-features")
            if method.source == "cached"
            else None
            for method in methods
            for name in method.teacher_names
            for entry in method.entries_read(params.cache.features)
        }
        write_json(path, {"teachers": stores} | ({"features": features} if features else {}))
    console.print(f"{path}: {', '.join(names)}")
