"""gather: the stores that a student is taught from -> data/lesson.json."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.project.outputs import lesson
from prepkd.runtime.files import write_json
from prepkd.stages._console import console
from prepkd.stages._options import Overrides, ParamsFile, known_teacher, read_params
from prepkd.stages._project import store_url, writing
from prepkd.store.identity import identities

LESSON = Path("data/lesson.json")


def gather(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    teachers: Annotated[
        str | None, typer.Option(metavar="NAME[+NAME...]", help="These teachers, to data/lessons/; else distill's.")
    ] = None,
) -> None:
    """Check that the teachers' stores have one view plan; writes their identities to `data/lesson.json`.

    DVC's `distill` depends on that small file: adding a teacher that is not used makes no student out of date.
    """
    params = read_params(params_file, overrides)
    names = params.distill.teacher_names
    if teachers:  # and those that the comparison's runs name themselves
        own = [name for run in params.compare.runs for name in params.variant(run, teachers).teacher_names]
        names = list(dict.fromkeys([*teachers.split("+"), *own]))
    path = Path("data/lessons") / f"{teachers}.json" if teachers else LESSON
    with writing(lesson(path)):
        stores = identities({known_teacher(params, name): store_url(params, name) for name in names})
        write_json(path, {"teachers": stores})
    console.print(f"{path}: {', '.join(names)}")
