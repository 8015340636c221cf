"""report: all results of a project -> results/report.html."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.html_report.report import build
from prepkd.html_report.results import Results
from prepkd.project.outputs import page
from prepkd.runtime.devices import choose_device
from prepkd.runtime.files import write_bytes
from prepkd.stages._comparison import COMPARISON, grid
from prepkd.stages._console import console, say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import TRAINING, data_file, store_url, student_folder, teacher_folders, writing
from prepkd.stages._trained_on import trained_on
from prepkd.views import parse_recipe

PAGE = Path("results/report.html")


def report(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page goes.")] = PAGE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make one page of all results, `results/report.html`: it opens offline, on a phone, in print.

    It shows the existing results: the comparison with paired differences, learning curves, the errors that KA repairs and the
    samples with extreme temperatures with their pictures, accuracy by class, confusions, calibration, cost, provenance. It ends
    with the missing parts, and the commands that make them.
    """
    params = read_params(params_file, overrides)
    settings = params.distill
    results = Results(
        settings,
        grid(params),
        data_file(params),
        students={seed: student_folder(seed) for seed in settings.seed_list},
        teachers=teacher_folders(settings.teacher_names),
        stores={name: store_url(params, name) for name in settings.teacher_names},
        trained_on=partial(trained_on, params),
        recipe=parse_recipe(params.augment),
        device=choose_device(params.threads),
        training=TRAINING,
        comparison=COMPARISON,
        added=params.compare.add,
    )
    with writing(page(out)):
        content, left_out = build(results)
        write_bytes(out, content)
    for one in left_out:
        say(f"left out: {one.title}: {one.why}")
    console.print(f"{out}: {len(content) / 1e6:.1f} MB; open it in a browser", markup=False)
    absent = [{"section": one.title, "why": one.why} for one in left_out]
    show({"page": str(out), "bytes": len(content), "left_out": absent})
