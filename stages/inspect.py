"""inspect: a logit store -> what it is, where it came from, what it is like; results/inspect/NAME.png."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prepkd.errors import InputError, refuse_differences
from prepkd.stages._shared import Overrides, ParamsFile, console, device, read_params, scratch_root

if TYPE_CHECKING:
    from prepkd.data import DataInfo, Split
    from prepkd.params import Params
    from prepkd.store import LogitStore

MOST_VIEWS = 8


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
    from prepkd.report.store_facts import look

    facts, store = look(found(store_url))
    report: dict[str, Any] = {"facts": facts, "left_out": []}
    if store is None:
        report["left_out"].append("everything about its logits: the store is unfinished, and nobody should read it yet")
    else:
        read = prepared(store, data)
        report |= figures(store, chosen(views, store), read, tau)
        if student and report["views_read"]:
            report["dtd"] = dtd(store, report["views_read"], student, read, read_params(params_file, overrides))
        report["picture"] = draw(report, out)
    show(report, as_json)


def found(url: str) -> str:
    """The store's place, or that of the one unfinished store in scratch that will go there; raises InputError for several."""
    import json

    from prepkd.store.place import is_remote

    if is_remote(url) or Path(url).exists():
        return url
    described = sorted(scratch_root().glob("*/store.zarr/zarr.json"))
    teachers = {path.parent: json.loads(path.read_bytes())["attributes"]["prepkd"]["teacher"] for path in described}
    growing = [folder for folder, teacher in teachers.items() if teacher["name"] == Path(url).stem]
    if len(growing) > 1:
        raise InputError(
            f"{url}: no such store; unfinished ones are {', '.join(map(str, growing))}; inspect one of them"
        )
    return str(growing[0]) if growing else url


def chosen(views: str | None, store: "LogitStore") -> list[int]:
    """The views to read: A to B - 1, or at most 8 of those that are there, evenly spread; raises InputError."""
    import re

    if views is None:
        last, count = len(store.present) - 1, min(MOST_VIEWS, len(store.present))
        return [store.present[round(i * last / max(1, count - 1))] for i in range(count)]
    parts = re.fullmatch(r"(\d+):(\d+)", views)
    if not parts or not int(parts[1]) < int(parts[2]) <= store.views:
        raise InputError(f"--views is {views!r}; expected A:B with 0 <= A < B <= {store.views}, e.g. 0:{store.views}")
    return list(range(int(parts[1]), int(parts[2])))


def data_path(store: "LogitStore") -> Path:
    """Where the data that a store was made from is by default."""
    return Path("data") / f"{store.attributes['dataset']['name']}.h5"


def prepared(store: "LogitStore", data: Path | None) -> "tuple[Split, DataInfo] | None":
    """The split that a store was made from; None where no file was named and none is there. Raises InputError."""
    from prepkd.data import describe, load_split

    path = data or data_path(store)
    if data is None and not path.is_file():
        return None
    split = load_split(path, store.attributes["split"])
    made = store.attributes["dataset"]["split_fingerprint"]
    remedy = f"name the data that {store.url} was made from with --data"
    refuse_differences({"split_fingerprint": (split.fingerprint, made)}, path, remedy)
    return split, describe(path)


def figures(store: "LogitStore", views: list[int], read: "tuple[Split, DataInfo] | None", tau: float) -> dict[str, Any]:
    """All figures that don't ask for a student; `left_out` says what is missing and why."""
    import torch
    from prepkd.report.store_report import adjustment, class_errors, count_views, softness, view_errors

    left_out: list[str] = []
    report: dict[str, Any] = {
        "views_read": views,
        "left_out": left_out,
        "teacher_error": view_errors(store.summary),
    }
    if not views:
        left_out.append("everything about its logits: no view was fetched; `prepkd fetch-views` brings them")
        return report
    if len(views) < len(store.present):
        left_out.append(f"{len(store.present) - len(views)} of the views; `--views 0:{store.views}` reads all")
    taus = sorted({1.0, tau})
    labels = None if read is None else torch.from_numpy(read[0].labels)
    counts = count_views(store, views, labels, taus)
    report |= softness(counts, store.classes, taus)
    if read is None:
        left_out.append(
            f"errors per class and KA's share need labels: {data_path(store)} is not there; name the data with --data"
        )
    else:
        split, info = read
        report["class_error"] = class_errors(counts, split.labels, info.class_names, len(views))
        report["ka"] = adjustment(counts, len(views))
    return report


def dtd(
    store: "LogitStore", views: list[int], student: Path, read: "tuple[Split, DataInfo] | None", params: "Params"
) -> dict[str, Any]:
    """The temperatures that `distill.dtd` would give a student; raises InputError where store, data and student don't fit."""
    from prepkd.models import load_checkpoint
    from prepkd.report.store_temperature import spread, temperatures
    from prepkd.train import Samples

    if read is None:
        raise InputError(f"{data_path(store)}: no such file; --student looks at the images: name the data with --data")
    where, settings = device(params), params.distill
    model, card = load_checkpoint(student, device=where, hint="run `prepkd distill`")
    samples = Samples.of(read[0], where)
    refuse_differences(
        {
            "num_classes": (card["num_classes"], store.classes),
            "in_channels": (card["in_channels"], int(samples.images.shape[1])),
        },
        student,
        "name a student of this data set",
    )
    rows = temperatures(store, views, model, samples, settings)
    return {
        "student": str(student),
        "batch_size": settings.batch_size,
        "settings": settings.dtd.model_dump(mode="json"),
    } | spread(rows, settings.dtd)


def draw(report: dict[str, Any], out: Path) -> str:
    """Write the picture; its path."""
    from prepkd.report.store_plots import picture
    from prepkd.report.store_tables import views_text

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

    from prepkd.report.store_tables import tables
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(report, sort_keys=True, indent=2, allow_nan=False))
        return
    Console(highlight=False).print(tables(report))
    if "picture" in report:
        console.print(f"picture: {report['picture']}", markup=False)
