"""inspect: a store -> its layout, origin and statistics, results/inspect/NAME.png; a model's folder -> its card."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from prepkd.distillation.student_settings import Distill
from prepkd.inspection.checkpoint_facts import is_checkpoint, read_checkpoint
from prepkd.inspection.inspect import find_store, inspect_store, picture_path
from prepkd.inspection.tables import tables
from prepkd.project.outputs import picture
from prepkd.provenance.store_files import StoreFiles
from prepkd.runtime.devices import choose_device
from prepkd.runtime.outputs import refuse_foreign
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import console, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import DATA, TEACHERS


def inspect(
    store_url: Annotated[
        str, typer.Argument(metavar="STORE", help="A store: a path, or a URL; or a trained model's folder.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="The prepared data; default data/DATASET.h5 if it is there."),
    ] = None,
    select: Annotated[
        str | None, typer.Option(metavar="VIEWS", help="The views to read, as 0:8 or 0,4:6; at most 8 if not given.")
    ] = None,
    tau: Annotated[float, typer.Option(help="The other temperature of confidence and entropy, beside 1.")] = 4.0,
    student: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A checkpoint: the temperatures that distill.dtd would give it."),
    ] = None,
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where NAME.png goes.")] = Path("results/inspect"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show a logit store's description, origin and statistics: tables, and `results/inspect/NAME.png`.

    Errors per class and KA's share need the labels: the prepared data. Temperatures need `--student` and params.yaml. An
    unfinished store is reported as unfinished. For a model's folder, such as models/student/seed0, it shows the card and the
    chain of its teachers.
    """
    if is_checkpoint(store_url):
        card = read_checkpoint(Path(store_url), TEACHERS)
        show(card.as_json(), card.table())
        return

    def distill() -> tuple[Distill, torch.device]:
        params = read_params(params_file, overrides)
        return params.distill, choose_device(params.threads)

    found = find_store(store_url, scratch_root())
    refuse_foreign(picture(picture_path(found, out)))
    files = StoreFiles(TEACHERS, DATA, data=data)
    inspection = inspect_store(found, files, views=select, tau=tau, student=student, distill=distill, out=out)
    show(inspection.as_json(), tables(inspection))
    if inspection.picture and not as_json:
        console.print(f"picture: {inspection.picture}")
