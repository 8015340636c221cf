"""verify: a logit store against the live teacher, or (--integrity) against its own manifest; exit code 0 or 1."""

import json
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prepkd.errors import InputError
from prepkd.stages._shared import teacher_folder
from rich.console import Console

if TYPE_CHECKING:
    import torch


def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A path, or a URL as s3://bucket/large.zarr.")],
    samples: Annotated[int, typer.Option(min=1, help="How many (view, sample) are asked again.")] = 512,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's folder; models/teachers/NAME if not given.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The prepared data; data/DATASET.h5 if not given.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="Draws the samples; random.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    integrity: Annotated[
        bool, typer.Option("--integrity", help="Compare every file with the manifest instead; no teacher needed.")
    ] = False,
) -> None:
    """Ask the live teacher a random sample of a store again: PASS (exit code 0), FAIL or WITHHELD (1).

    Controls that ask wrongly must be found out, else the verdict is WITHHELD. Reads no params.yaml, writes nothing.
    """
    from prepkd.verification.tables import agreement_table, damage_table, notes

    out = Console(highlight=False, markup=False)
    if integrity:
        report = check_files(store)
        passed, last = report["intact"], report["why"]
        table, lines = damage_table(report["damages"]), []
    else:
        report = ask_again(store, samples, teacher, data, secrets.randbits(31) if seed is None else seed)
        passed, last = report["verdict"] == "PASS", f"{report['verdict']}: {report['why']}"
        table, lines = agreement_table(report), list(notes(report))
    if as_json:
        typer.echo(json.dumps(report, sort_keys=True, indent=2, allow_nan=False))
    else:
        if table.row_count:
            out.print(table)
        for line in lines:
            out.print(line)
        out.print(last, soft_wrap=True)
    raise typer.Exit(0 if passed else 1)


def ask_again(url: str, count: int, folder: Path | None, data: Path | None, seed: int) -> dict[str, Any]:
    """The verdict on a store, once its data and its teacher are known to be its own; raises InputError."""
    from prepkd.data.prepared.file import describe, load_split
    from prepkd.data.samples.samples import Samples
    from prepkd.models import load_checkpoint
    from prepkd.store import LogitStore
    from prepkd.verification.provenance import check_data, check_num_classes, check_teacher
    from prepkd.verification.verdict import verdict

    store = LogitStore.open(url)
    made, written_on = store.attributes.teacher, store.attributes.precision.device
    imported = made.model == "imported"
    if imported and folder is None:
        raise InputError(
            f"{url}: imported, and what made its logits was not recorded: weights, preprocessing, arithmetic can't be "
            "verified; name a teacher to compare with by --teacher, or check the files with --integrity"
        )
    path = data or Path("data") / f"{store.attributes.dataset.name}.h5"
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the data that the store was made from with --data")
    info, split = describe(path), load_split(path, store.attributes.split)
    check_data(store, split.fingerprint, len(info.class_names), path)
    where = same_device(written_on)
    folder = folder or teacher_folder(made.name)
    teacher, card = load_checkpoint(folder, device=where, hint="name the folder of the store's teacher with --teacher")
    check_num_classes(store, card, folder)
    if not imported:
        check_teacher(store, card, folder, "name the folder of the store's own teacher with --teacher")
    report = verdict(store, teacher, Samples.of(split, where, store.plan.recipe), count=count, seed=seed)
    return report | {"device": device_name(where), "written_on": written_on, "imported": imported}


def check_files(url: str) -> dict[str, Any]:
    """What is wrong with the files of a store; raises InputError where there is none."""
    from dataclasses import asdict

    from prepkd.store.integrity import damages
    from prepkd.store.place import keys, open_place
    from zarr.core.sync import sync

    found = damages(url)
    place = open_place(url)
    files, size = len(keys(place)), sync(place.getsize_prefix(""))
    count = f"{len(found):,} file{'s' * (len(found) != 1)}"
    return {
        "store": url,
        "intact": not found,
        "files": files,
        "bytes": size,
        "damages": [asdict(damage) for damage in found],
        "why": f"damaged: {count}" if found else f"intact: {files:,} files, {size:,} bytes",
    }


def same_device(written_on: str) -> "torch.device":
    """The GPU where there is one; else the CPU, with as many threads as the store's writer: then bits can be equal."""
    import torch
    from prepkd.runtime.allocator import keep_freed_memory

    if torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed_memory()
    if threads := re.search(r"(\d+) threads", written_on):
        torch.set_num_threads(int(threads[1]))
    return torch.device("cpu")


def device_name(where: "torch.device") -> str:
    """As stores write it."""
    import torch

    return where.type if where.type != "cpu" else f"cpu, {torch.get_num_threads()} threads"
