"""verify: a logit store against the live teacher, or (--integrity) against its own manifest; exit code 0 or 1."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from prepkd.provenance.store_files import StoreFiles
from prepkd.stages._console import show
from prepkd.stages._options import AsJson, Quiet, read_params
from prepkd.stages._project import DATA, TEACHERS
from prepkd.verification.tables import damage_table, discrepancy_table, notes
from prepkd.verification.verify import verify_files, verify_store
from rich.console import RenderableType
from rich.text import Text

PARAMS = Path("params.yaml")


def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A path, or a URL as s3://bucket/large.zarr.")],
    samples: Annotated[int, typer.Option(min=1, help="(view, sample) pairs to recompute.")] = 512,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's folder; models/teachers/NAME if not given.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The prepared data; data/DATASET.h5 if not given.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**64 - 1, help="Seed of the draw of samples; random if not given.", show_default=False
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic whose rounding is tolerated: ieee, tf32 or bf16. Default: the stricter one of cache.precision and "
            "of the store's record.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    integrity: Annotated[
        bool, typer.Option("--integrity", help="Compare every file with the manifest instead; no teacher needed.")
    ] = False,
) -> None:
    """Ask the live teacher a random sample of a store again: PASS (exit code 0), FAIL or WITHHELD (1).

    Negative controls must fail, else the verdict is WITHHELD. Reads cache.precision of params.yaml; writes nothing.
    """
    if integrity:
        report = verify_files(store)
        passed, last = report["intact"], report["why"]
        parts: list[RenderableType] = [damage_table(report["damages"])]
    else:
        settings = read_params(PARAMS, []).cache.precision if PARAMS.is_file() else None
        options = {"count": samples, "seed": secrets.randbits(31) if seed is None else seed}
        files = StoreFiles(TEACHERS, DATA, teacher, data)
        found = verify_store(store, files, **options, precision=precision, settings=settings)
        report, passed = found.as_json(), found.verdict.name == "PASS"
        last, parts = f"{found.verdict.name}: {found.verdict.why}", [discrepancy_table(found), *map(Text, notes(found))]
    show(report, *(parts if not integrity or report["damages"] else []), last)
    raise typer.Exit(0 if passed else 1)
