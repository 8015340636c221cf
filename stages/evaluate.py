"""evaluate: trained students -> results/metrics.json and results/plots/."""

from pathlib import Path

from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    console,
    data_file,
    device,
    read_params,
    store_url,
    student_folder,
    teacher_folder,
)


def evaluate(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
) -> None:
    """Measure the students on the test set; writes `results/metrics.json` and `results/plots/`.

    Top-1, top-5, NLL, ECE, agreement with the teacher, genetic errors: mean, std and n over the seeds.
    """
    params = read_params(params_file, overrides)
    import torch
    from prepkd.data import describe, load_split
    from prepkd.errors import InputError
    from prepkd.files import write_bytes, write_json
    from prepkd.models import load_checkpoint
    from prepkd.report.metrics import against_teacher, measure, over_seeds
    from prepkd.report.plots import confusion, learning_curves, offline_page
    from prepkd.report.results import read_results
    from prepkd.store import LogitStore
    from prepkd.train import Samples, predict

    settings, where = params.distill, device(params)
    path, name = data_file(params), settings.teacher
    info = describe(path)
    test = Samples.of(load_split(path, "test"), where)
    labels = test.labels.cpu()
    logits = {}
    for seed in settings.seed_list:
        folder = student_folder(seed)
        model, card = load_checkpoint(folder, device=where, hint="run `prepkd distill`")
        for key, found, wanted in (
            ("training.method", card["training"]["method"], settings.method),
            ("inputs.dataset_fingerprint", card["inputs"]["dataset_fingerprint"], info.fingerprint),
        ):
            if found != wanted:
                raise InputError(f"{folder}: {key} is {found[:24]}, expected {wanted[:24]}; run `prepkd distill`")
        logits[seed] = predict(model, test.images).cpu()
    teacher = read_results(teacher_folder(name) / "test_logits.safetensors", f"run `prepkd train-teacher {name}`")
    answers = teacher.logits[0]
    figures = [measure(values, labels) | against_teacher(values, answers, labels) for values in logits.values()]
    store = LogitStore.open(store_url(params, name))
    report = over_seeds(figures) | {
        "teacher": measure(answers, labels) | {"training_view_error": store.summary["teacher_error"]}
    }
    plots = Path("results/plots")
    write_bytes(
        plots / "confusion.csv",
        confusion(torch.cat(list(logits.values())), labels.repeat(len(logits)), info.class_names),
    )
    write_bytes(plots / "learning_curves.csv", learning_curves(Path("results/training"), settings.seed_list))
    write_bytes(plots / "page.html", offline_page())
    write_json(Path("results/metrics.json"), report)
    top1 = report["top1"]
    spread = "" if top1["std"] is None else f" +- {top1['std']:.2%}"
    console.print(
        f"{settings.method}: test top-1 {top1['mean']:.2%}{spread} (n = {report['n']}), "
        f"teacher {report['teacher']['top1']:.2%}"
    )
