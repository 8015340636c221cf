"""evaluate: trained students -> results/metrics.json, results/details.json and results/plots/."""

from functools import partial
from pathlib import Path

from prepkd.project.outputs import details, metrics, plots
from prepkd.report.details import headline
from prepkd.report.evaluation import Evaluation
from prepkd.report.students import report_students
from prepkd.runtime.devices import choose_device
from prepkd.runtime.files import write_json
from prepkd.stages._console import console, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import (
    DETAILS,
    METRICS,
    TRAINING,
    data_file,
    store_url,
    student_folder,
    teacher_folders,
    writing,
)
from prepkd.stages._summary import metric_tables, percent
from prepkd.stages._trained_on import trained_on
from prepkd.views import parse_recipe

PLOTS = Path("results/plots")


def evaluate(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure the students on the test set; writes `results/metrics.json`, `details.json` and `plots/`.

    Top-1, top-5, NLL, ECE, agreement with the teacher, genetic errors: mean, std and n over the seeds. `results/metrics.json`
    has the few figures that experiments are compared by, `results/details.json` all of them, also by seed and by class. Of
    five classes or fewer, top-5 is 100 % and is not printed.
    Agreement and genetic errors need the teacher's test logits; without `models/teachers/NAME` they are left out.
    """
    params = read_params(params_file, overrides)
    settings = params.distill
    teachers = teacher_folders(settings.teacher_names)
    with writing(metrics(METRICS), details(DETAILS), plots(PLOTS)):
        report = report_students(
            settings,
            Evaluation(data_file(params), parse_recipe(params.augment), choose_device(params.threads)),
            partial(trained_on, params),
            students={seed: student_folder(seed) for seed in settings.seed_list},
            teachers=teachers,
            stores={name: store_url(params, name) for name in settings.teacher_names},
            training=TRAINING,
            plots=PLOTS,
        )
        write_json(DETAILS, report)
        write_json(METRICS, headline(report))
    absent = [str(folder) for folder in teachers.values() if not folder.exists()]
    against = (
        f"agreement and genetic errors left out: no {', '.join(absent)}"
        if absent
        else f"teacher {report['teacher']['top1']:.2%}"
    )
    console.print(
        f"{settings.method}: test top-1 {percent(report['top1'])} (n = {report['n']}), {against}", markup=False
    )
    show({"method": settings.method, **report}, *metric_tables(report))
