"""inspect: a logit store -> what it is, where it came from, what it is like; results/inspect/NAME.png."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prepkd.errors import InputError, refuse_differences
from prepkd.stages._shared import Overrides, ParamsFile, console, device, read_params, scratch_root, teacher_folder

if TYPE_CHECKING:
    from prepkd.data.prepared.file import DataInfo, Split
    from prepkd.store import LogitStore


def inspect(
    store_url: Annotated[str, typer.Argument(metavar="STORE", help="A logit store: a path, or a URL.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="The prepared data; default data/<dataset>.h5 if it is there."),
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="A:B", help="Read views A to B - 1; default at most 8, evenly spread.")
    ] = None,
    tau: Annotated[float, typer.Option(help="The other temperature of confidence and entropy, beside 1.")] = 4.0,
    student: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A checkpoint: the temperatures that distill.dtd would give it."),
    ] = None,
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where NAME.png goes.")] = Path("results/inspect"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what a logit store is, where it came from and what it is like: tables, and `results/inspect/NAME.png`.

    Errors per class and KA's share need the labels: the prepared data. Temperatures need `--student` and params.yaml. An
    unfinished store is shown as that.
    """
    if not 0 < tau < float("inf"):
        raise InputError(f"--tau is {tau:g}; expected a finite number above 0")
    from prepkd.inspection.facts import look
    from prepkd.inspection.sections import choose, of_logits, of_student

    facts, store = look(found(store_url))
    report: dict[str, Any] = {"facts": facts | given(facts["attributes"]["teacher"]), "left_out": []}
    if store is None:
        report["left_out"].append("everything about its logits: the store is unfinished, and nobody should read it yet")
    else:
        path = data or Path("data") / f"{store.attributes.dataset.name}.h5"
        missing = f"{path} is not there; name the data with --data"
        read = prepared(store, path) if data or path.is_file() else None
        if student and read is None:
            raise InputError(f"--student looks at the images: {missing}")
        params = read_params(params_file, overrides) if student else None
        report |= of_logits(store, choose(views, store), read, tau, missing)
        if student and params and read and report["views_read"]:
            report["dtd"] = of_student(store, report["views_read"], student, read[0], params.distill, device(params))
        report["picture"] = draw(report, out)
    show(report, as_json)


def found(url: str) -> str:
    """The store's place, or that of the one unfinished store in scratch that will go there; raises InputError for several."""
    from prepkd.store.place import is_remote

    if is_remote(url) or Path(url).exists():
        return url
    described = sorted(scratch_root().glob("*/store.zarr/zarr.json"))
    growing = [path.parent for path in described if grows_for(path) == Path(url).stem]
    if len(growing) > 1:
        raise InputError(
            f"{url}: no such store; unfinished ones are {', '.join(map(str, growing))}; inspect one of them"
        )
    return str(growing[0]) if growing else url


def grows_for(description: Path) -> str | None:
    """The teacher's name in an unfinished store's `zarr.json`; None where that is torn or something else."""
    import json

    try:
        return str(json.loads(description.read_bytes())["attributes"]["prepkd"]["teacher"]["name"])
    except (ValueError, TypeError, KeyError):
        return None


def given(teacher: dict[str, Any]) -> dict[str, Any]:
    """Where the teacher's weights came from, if they were given and the teacher is here: a store doesn't say."""
    from prepkd.models.checkpoint import load_card

    try:
        card = load_card(teacher_folder(teacher["name"]))
    except InputError:
        return {}
    same = card["weights_fingerprint"] == teacher["weights_fingerprint"]
    return {"weights_from": card["weights_from"]} if same and "weights_from" in card else {}


def prepared(store: "LogitStore", path: Path) -> "tuple[Split, DataInfo]":
    """The split that a store was made from; raises InputError where the file holds another one."""
    from prepkd.data.prepared.file import describe, load_split

    split = load_split(path, store.attributes.split)
    made = store.attributes.dataset.split_fingerprint
    remedy = f"name the data that {store.url} was made from with --data"
    refuse_differences({"split_fingerprint": (split.fingerprint, made)}, path, remedy)
    return split, describe(path)


def draw(report: dict[str, Any], out: Path) -> str:
    """Write the picture; its path."""
    from prepkd.inspection.plots import picture
    from prepkd.inspection.tables import views_text

    facts = report["facts"]
    name = facts["store"].rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr")
    made = facts["attributes"]
    path = out / f"{name}.png"
    title = f"{name}: {made['teacher']['model']} on {made['dataset']['name']}, {made['encoding']['name']}"
    picture(report, f"{title}, {views_text(report)}", path)
    return str(path)


def show(report: dict[str, Any], as_json: bool) -> None:
    """Tables, or one JSON object with sorted keys, on standard output."""
    import json

    from prepkd.inspection.tables import tables
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(report, sort_keys=True, indent=2, allow_nan=False))
        return
    Console(highlight=False).print(tables(report))
    if "picture" in report:
        console.print(f"picture: {report['picture']}", markup=False)
