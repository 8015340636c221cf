"""predict: image files and a model -> class names and probabilities; writes nothing."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.deployment.images import named_images
from prepkd.deployment.predict import Prediction, open_model, predict_images
from prepkd.deployment.tables import prediction_csv, prediction_table
from prepkd.errors import InputError
from prepkd.runtime.devices import choose_device
from prepkd.stages._console import say, show
from prepkd.stages._options import AsJson, Quiet
from prepkd.stages._project import student_folder

MODEL = student_folder(0)


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Image files, folders of them, or patterns as '*.jpg'.")
    ],
    model: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="The folder of a student or teacher, an exported folder, or an ONNX file of it."
        ),
    ] = MODEL,
    top: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Classes to show per image.")] = 3,
    trust_factory: Annotated[
        bool, typer.Option("--trust-factory", help="Import the model's code, if it is a package.module:factory.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per image and class.")] = False,
) -> None:
    """Classify image files of any size with a trained model: class names and probabilities.

    Images are turned upright by their EXIF orientation, resized and cut as the model was evaluated. A file that is no image is
    reported in one line; the others are classified, and the exit code is 2.
    """
    if as_json and as_csv:
        raise InputError("--json and --csv are given; expected one of them")
    device = choose_device()
    opened = open_model(model, device, trust_factory=trust_factory)
    answers = list(predict_images(opened, named_images(images), device, top=top))
    found = [one for one in answers if isinstance(one, Prediction)]
    faults = [str(one) for one in answers if isinstance(one, InputError)]
    if as_csv:
        typer.echo(prediction_csv(found), nl=False)
    elif as_json or found:
        answer = {"model": str(model), "images": [one.as_json() for one in found], "errors": faults}
        show(answer, prediction_table(found))
    for fault in faults:
        say(f"error: {fault}")
    if faults:
        raise typer.Exit(2)
