"""evaluate: trained students -> results/metrics.json and results/plots/."""

from pathlib import Path

from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    console,
    data_file,
    device,
    read_params,
    recipe_of,
    store_url,
    student_folder,
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
    from prepkd.data.prepared.file import describe, load_split
    from prepkd.data.samples.samples import Samples
    from prepkd.errors import refuse_differences
    from prepkd.models import load_checkpoint
    from prepkd.report.metrics import against_teacher, measure, over_seeds
    from prepkd.report.page import offline_page
    from prepkd.report.plot_data import confusion, learning_curves
    from prepkd.runtime.files import write_bytes, write_json
    from prepkd.stages._teaching import check_trained_by, teacher_test_logits, teachers_of
    from prepkd.store import LogitStore
    from prepkd.training.evaluation import predict
    from prepkd.verification.provenance import check_taught_by

    settings, where, remedy = params.distill, device(params), "run `prepkd distill`"
    path = data_file(params)
    info, split = describe(path), load_split(path, "test")
    test = Samples.of(split, where, recipe_of(params))
    labels = test.labels.cpu()
    logits = {}
    for seed in settings.seed_list:
        folder = student_folder(seed)
        model, card = load_checkpoint(folder, device=where, hint=remedy)
        check_trained_by(card["training"], settings, folder, remedy, but={"seeds"})
        made_from = card["inputs"]
        refuse_differences(
            {"inputs.dataset_fingerprint": (made_from["dataset_fingerprint"], info.fingerprint)}, folder, remedy
        )
        check_taught_by(made_from["teacher"], teachers_of(settings), folder, remedy)
        logits[seed] = predict(model, test).cpu()
    answers = teacher_test_logits(settings, split.fingerprint)
    figures = [measure(values, labels) | against_teacher(values, answers, labels) for values in logits.values()]
    errors = [LogitStore.open(store_url(params, name)).summary["teacher_error"] for name in settings.teacher_names]
    report = over_seeds(figures) | {
        "teacher": measure(answers, labels) | {"training_view_error": sum(errors) / len(errors)}
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
