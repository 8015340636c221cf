"""export: a student's or teacher's folder and data/<dataset>.h5 -> exports/NAME/."""

import re
from pathlib import Path
from typing import Annotated

import typer
from prepkd.deployment.classifier import HINT
from prepkd.deployment.export import Options, data_of, refuse_edited
from prepkd.deployment.export import export as export_model
from prepkd.deployment.packages import need_packages
from prepkd.deployment.quantise import Int8
from prepkd.deployment.tables import export_table
from prepkd.errors import InputError
from prepkd.models import load_card
from prepkd.project.outputs import exported
from prepkd.stages._console import console, say, show
from prepkd.stages._options import AsJson, Quiet
from prepkd.stages._project import DATA, DETAILS, EXPORTS, writing

SEED = re.compile(r"seed\d+")


def export(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="The folder of a student or teacher.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the folder in `exports/`; default: student-seed0, or the teacher's name."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Add a quantised model, calibrated on training images.")] = False,
    max_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="The largest loss of test top-1 by int8, in percentage points.")
    ] = 1.0,
    calibration_images: Annotated[
        int, typer.Option(metavar="COUNT", help="Training images to calibrate int8 on.")
    ] = 512,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="The licence for the model card, as apache-2.0.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="The prepared data it was trained on; default: its card's.")
    ] = None,
    trust_factory: Annotated[
        bool, typer.Option("--trust-factory", help="Import the model's code, if it is a package.module:factory.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an export of other weights, or with a changed README.md.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export a student or teacher as ONNX, torch.export and safetensors to `exports/NAME/`, each checked on the test set.

    With a model card, for the Hugging Face Hub, of the measured figures. A format that differs from the student, or an int8 model
    that loses more than `--max-drop`, is refused, and nothing is written. Needs `pip install 'prepkd[export]'`.
    """
    need_packages()
    default = f"{student.parent.name}-{student.name}" if SEED.fullmatch(student.name) else student.name
    chosen = default if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", chosen):
        raise InputError(f"the export's name is {chosen!r}; expected letters, digits, '_', '-' and '.': set --name")
    target = EXPORTS / chosen
    options = Options(Int8(calibration_images, max_drop) if int8 else None, licence, DETAILS)
    card = load_card(student, HINT)
    prepared = data or data_of(student, card, DATA)
    with writing(exported(target)):
        if not replace:
            refuse_edited(target, card)
        checks = export_model(student, target, prepared, options, say, trust_factory=trust_factory)
    show(checks, export_table(checks))
    if not as_json:
        count = checks["data"]["samples"]
        console.print(f"{target}: checked on {count:,} test images; README.md is its model card", markup=False)
