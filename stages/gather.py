"""gather: the stores that a student is taught from -> data/lesson.json."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from prepkd.stages._console import console
from prepkd.stages._project import Overrides, ParamsFile, known_teacher, read_params, store_url

LESSON = Path("data/lesson.json")


def gather(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    teachers: Annotated[
        str | None, typer.Option(metavar="NAME[+NAME...]", help="These teachers, to data/lessons/; else distill's.")
    ] = None,
) -> None:
    """Check that the teachers' stores have one plan; writes which stores they are to `data/lesson.json`.

    DVC's `distill` depends on that small file: a teacher that is added, and not asked for, makes no student out of date.
    """
    params = read_params(params_file, overrides)
    from prepkd.errors import refuse_differences
    from prepkd.runtime.files import write_json

    names = teachers.split("+") if teachers else params.distill.teacher_names
    path = Path("data/lessons") / f"{teachers}.json" if teachers else LESSON
    for name in names:
        known_teacher(params, name)
    stores = {name: read(store_url(params, name), name) for name in names}
    first = stores[names[0]]["views"]
    for name in names[1:]:
        where = f"{store_url(params, name)} against {store_url(params, names[0])}"
        wanted = {f"views.{key}": (value, first[key]) for key, value in stores[name]["views"].items()}
        refuse_differences(wanted, where, f"run `prepkd cache-logits {name}` again")
    write_json(path, {"teachers": stores})
    console.print(f"{path}: {', '.join(names)}")


def read(url: str, name: str) -> dict[str, Any]:
    """A store's identity, without its logits; raises InputError where it is missing or unfinished."""
    from prepkd.errors import InputError
    from prepkd.store.layout import MANIFEST
    from prepkd.store.place import get, open_place

    place = open_place(url)
    manifest, group = get(place, MANIFEST), get(place, "zarr.json")
    if manifest is None or group is None:
        raise InputError(f"{url}: no finished store; run `prepkd cache-logits {name}`")
    attributes = json.loads(group)["attributes"]["prepkd"]
    return {
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "fingerprints": attributes["fingerprints"],
        "views": attributes["views"],
    }
