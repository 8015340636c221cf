"""plan: settings, or sizes -> the cost of caching and training, in bytes, files, hours and students; writes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from prepkd.costs.cost import Rates
from prepkd.costs.cost_table import cost_table
from prepkd.costs.measured import teacher_rate
from prepkd.costs.planned import DataSizes, cost_without_project, project_cost
from prepkd.errors import InputError
from prepkd.stages._console import show
from prepkd.stages._dataset import cached_views
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import data_file

PARAMS = Path("params.yaml")


def plan(
    params_file: ParamsFile = PARAMS,
    overrides: Overrides = [],
    samples: Annotated[
        int | None, typer.Option(min=1, max=2**40, help="Training images; the prepared data's.", show_default=False)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, max=2**20, help="Classes; the prepared data's.", show_default=False)
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Override cache.views: how many views, or 'all'.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Override cache.encoding.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=2**20, help="Override distill.epochs: a student's.")] = None,
    gpus: Annotated[
        int, typer.Option(min=1, max=2**16, help="GPUs, or processes without one, that share the work.")
    ] = 1,
    teacher_images_per_second: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Images that the teacher answers on one GPU (mean over several teachers)."),
    ] = None,
    student_images_per_second: Annotated[
        float | None, typer.Option(metavar="RATE", help="Images that a student trains on, on one GPU.")
    ] = None,
    disk_megabytes_per_second: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Reading rate of the disk, which then counts in the break-even."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Time the project's teacher here, in a few seconds; needs the prepared data."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what caching and training will cost: disk, teacher hours, memory, reading, and when the cache has paid for itself.

    Options override params.yaml and the prepared data; without params.yaml give `--samples`, `--classes` and `--views`.
    Runs no teacher without `--measure`, and writes nothing.
    """
    rates = Rates.given(gpus, teacher_images_per_second, student_images_per_second, disk_megabytes_per_second)
    if measure and rates.teacher:
        raise InputError("--measure and --teacher-images-per-second say the same; give one of them")
    if params_file == PARAMS and not params_file.is_file() and not overrides and not measure:
        found = cost_without_project(samples, classes, views, encoding, epochs, rates)
    else:
        options = {"cache__views": views, "cache__encoding": encoding, "distill__epochs": epochs}
        params = read_params(params_file, overrides, **options)
        if measure:
            rates = replace(rates, teacher=teacher_rate(params, cached_views(params)))
        found = project_cost(params, DataSizes(samples, classes), rates, data_file(params))
    show(found.as_json(), cost_table(found))
