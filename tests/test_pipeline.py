"""The pipeline as users run it: DVC in a fresh clone, and every command in README.md."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import ROOT, copy_working_tree, edit_params, run, stop_workers, wait_for_queue

SMALL = {"epochs": 2, "seeds": 2}


def shrink(params: dict) -> None:
    params["prepare"]["subset"] = 12
    for teacher in params["teachers"].values():
        teacher.update(model="convnet4", epochs=2)
    params["distill"].update(SMALL)
    params["compare"]["teachers"], params["compare"]["students"] = ["large"], ["convnet8"]
    params["compare"]["runs"] = ["kd", "kd,ce_weight=0", "ka-ps+dtd-flsw"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree as `git clone` would make it, with small settings, after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone") / "prepkd"
    copy_working_tree(folder)
    edit_params(folder, shrink)
    run("git init -q -b main && git add -A && git commit -qm clone && dvc repro -q", folder)
    run("git add -A && git commit -qm 'first run'", folder)
    return folder


def test_every_stage_wrote_what_it_promises(clone: Path) -> None:
    for path in (
        "data/digits.h5",
        "data/logits/large.zarr/manifest.json",
        "data/logits/small.zarr/manifest.json",
        "data/lesson.json",
        "models/teachers/large/model.safetensors",
        "models/teachers/large/model.json",
        "models/student/seed0/model.safetensors",
        "models/student/seed1/model.json",
        "results/training/seed0/metrics.json",
        "results/details.json",
        "results/plots/confusion.csv",
        "results/plots/learning_curves.csv",
        "results/report.html",
    ):
        assert (clone / path).is_file(), path
    metrics = json.loads((clone / "results/metrics.json").read_text())
    details = json.loads((clone / "results/details.json").read_text())
    assert details["n"] == 2
    for name in ("top1", "top5", "nll", "ece", "agreement", "genetic_errors"):
        assert set(details[name]) == {"mean", "std"}
    assert set(details["teacher"]) == {"top1", "top5", "nll", "ece", "training_view_error"}
    assert metrics == {
        "n": 2,
        "top1": pytest.approx(details["top1"], abs=5e-5),
        "genetic": pytest.approx(details["genetic_errors"]["mean"], abs=5e-5),
        "teacher": pytest.approx(
            {name: details["teacher"][name] for name in ("top1", "training_view_error")}, abs=5e-5
        ),
    }
    assert set(details["seeds"]) == {"0", "1"} and len(details["classes"]) == 10
    logged = set(json.loads((clone / "results/training/seed0/metrics.json").read_text()))
    assert {"train", "test", "lr", "samples_per_second", "epoch"} <= logged


def test_second_repro_does_nothing(clone: Path) -> None:
    assert "Data and pipelines are up to date." in run("dvc repro", clone)
    assert run("git status --porcelain", clone) == ""


@pytest.mark.parametrize(
    ("edit", "stale", "fresh"),
    [
        ("echo '# x' >> pipeline/prepkd/methods/kd.py", ["distill"], ["train-teacher", "cache-logits", "prepare"]),
        (
            "echo '# x' >> pipeline/prepkd/store/reader.py",
            ["distill", "cache-logits"],
            ["train-teacher", "prepare"],
        ),
        (
            "echo '# x' >> pipeline/prepkd/tracking/loggers.py",
            [],
            ["prepare", "train-teacher", "cache-logits", "gather", "distill", "evaluate"],
        ),
        ("echo '# x' >> pipeline/prepkd/store/encodings/f16.py", ["cache-logits@large"], ["train-teacher", "prepare"]),
        ("echo '# x' >> pipeline/prepkd/html_report/page.py", ["report"], ["evaluate", "distill", "train-teacher"]),
        ("echo '# x' >> stages/distill.py", ["distill"], ["train-teacher", "cache-logits", "prepare"]),
        ("echo '# x' >> pipeline/prepkd/report/metrics.py", ["evaluate"], ["distill", "train-teacher", "cache-logits"]),
        ("sed -i 's/  views: all/  views: 3/' params.yaml", ["cache-logits@large"], ["train-teacher", "prepare"]),
        ("sed -i 's/method: kd/method: ka-ps/' params.yaml", ["distill"], ["train-teacher", "cache-logits"]),
    ],
)
def test_a_change_reaches_no_further_than_it_must(clone: Path, edit: str, stale: list[str], fresh: list[str]) -> None:
    run(edit, clone)
    try:
        status = run("dvc status", clone)
        heads = [line.rstrip(":") for line in status.splitlines() if line and not line.startswith("\t")]
        for stage in stale:
            assert any(head.startswith(stage) for head in heads), status
        for stage in fresh:
            assert not any(head.startswith(stage) for head in heads), status
    finally:
        run("git checkout -q pipeline stages params.yaml", clone)


def test_a_teacher_added_later_touches_no_other_store_and_no_student(clone: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(clone, tmp_path / "prepkd", symlinks=True)
    before = {p: p.stat().st_mtime_ns for p in (clone / "data/logits").rglob("*") if p.is_file()}
    edit_params(clone, lambda params: params["teachers"].update(third={"model": "convnet4", "epochs": 1}))
    output = run("dvc repro", clone)
    ran = re.findall(r"Running stage '([^']+)'", output)
    assert ran == ["train-teacher@third", "cache-logits@third", "gather", "evaluate", "report"], output
    assert {p: p.stat().st_mtime_ns for p in before} == before
    # With two of them as teachers, the students are out of date and no teacher is. Every documented key can be set.
    output = run("dvc repro && dvc exp run -S 'distill.teachers=[large,third]' -S distill.checkpoint_every=10", clone)
    assert re.findall(r"Running stage '([^']+)'", output) == ["gather", "distill", "evaluate", "report"], output
    card = json.loads((clone / "models/student/seed0/model.json").read_text())
    assert list(card["inputs"]["teacher"]) == ["large", "third"] and card["training"]["checkpoint_every"] == 10
    # No store knows how often the two together are wrong.
    assert set(json.loads((clone / "results/metrics.json").read_text())["teacher"]) == {"top1"}
    assert "9 views; of each teacher alone" in (clone / "results/report.html").read_text()


def test_comparison_and_a_method_dropped_from_it(clone: Path) -> None:
    run("dvc repro -q compare/dvc.yaml", clone)
    table = pd.read_csv(clone / "results/compare/table.csv")
    assert list(table["run"]) == ["kd", "kd,ce_weight=0", "ka-ps+dtd-flsw"]
    assert (table["n"] == 2).all()
    assert (clone / "results/compare/top1.png").read_bytes().startswith(b"\x89PNG")
    run("sed -i 's/method: kd/method: ka-ps/' params.yaml", clone)  # a run names its own method
    assert "run@" not in run("dvc status compare/dvc.yaml", clone)
    edit_params(clone, lambda params: params["compare"]["runs"].remove("kd,ce_weight=0"))
    output = run("dvc repro compare/dvc.yaml", clone)
    assert "Running stage 'compare/dvc.yaml:table'" in output
    assert "Running stage 'compare/dvc.yaml:run" not in output
    table = pd.read_csv(clone / "results/compare/table.csv")
    assert list(table["run"]) == ["kd", "ka-ps+dtd-flsw"]
    assert "minus_kd_points" in table and "minus_kd_without_ce_points" not in table
    left = "results/compare/runs/large/convnet8/kd,ce_weight=0.safetensors"
    assert f"{left}: of a run that left the comparison; remove it" in output
    (clone / left).unlink()
    # A run that names a teacher of its own leaves the other runs up to date.
    edit_params(clone, lambda params: params["compare"]["runs"].append("kd,teacher=small"))
    output = run("dvc repro compare/dvc.yaml", clone)
    assert re.findall(r"Running stage 'compare/dvc.yaml:run@(.+)'", output) == ["large-convnet8-kd,teacher=small"], (
        output
    )
    assert "left the comparison" not in output
    run("git checkout -q . && git clean -fdq results", clone)


def test_a_comparison_trained_without_dvc_is_recorded(clone: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(clone, tmp_path / "prepkd", symlinks=True)
    [command] = re.findall(r"`(dvc commit [^`]+)` records", (ROOT / "docs/how-to/cluster.md").read_text())
    run(f"prepkd compare --jobs 2 && prepkd report && {command}", clone)
    assert "up to date" in run("dvc status compare/dvc.yaml", clone)
    assert "Running stage" not in run("dvc repro compare/dvc.yaml", clone)


def test_a_grid_of_teachers_and_students(clone: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(clone, tmp_path / "prepkd", symlinks=True)
    run("dvc repro -q compare/dvc.yaml", clone)
    edit_params(
        clone,
        lambda params: params["compare"].update(teachers=["large", "large+small"], students=["convnet8", "convnet4"]),
    )
    output = run("dvc repro compare/dvc.yaml", clone)
    ran = re.findall(r"Running stage 'compare/dvc.yaml:run@([^']+)'", output)
    assert len(ran) == 9, "the pair that was there is not trained again"
    long = pd.read_csv(clone / "results/compare/long.csv")
    assert len(long) == 4 * 3 * 2 and long[["teacher", "student", "run", "seed"]].drop_duplicates().shape[0] == 24
    table = pd.read_csv(clone / "results/compare/table.csv").set_index(["teacher", "student", "run"])
    means = long.groupby(["teacher", "student", "run"])["top1_percent"].mean()
    for key, mean in means.items():
        assert table.loc[key, "top1_percent"] == pytest.approx(mean, abs=1e-3)
    text = (clone / "results/compare/table.md").read_text()
    assert "large+small -> convnet4" in text.splitlines()[0]
    wide = pd.read_csv(clone / "results/compare/wide.csv").set_index("run")
    assert wide.loc["kd", "large+small -> convnet4, top1_percent"] == pytest.approx(
        means["large+small", "convnet4", "kd"], abs=1e-3
    )
    assert text.count("Teacher `large+small (probabilities at tau 2)`") == 2
    assert "up to date" in run("dvc repro compare/dvc.yaml", clone)


def readme_commands() -> list[str]:
    """The `dvc` and `prepkd` lines of README.md's `bash` blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("dvc ", "prepkd "))]


def test_readme_prints_the_commands_that_it_must() -> None:
    commands = "\n".join(readme_commands())
    for needed in (
        "dvc exp run -S distill.method=ka-ps+dtd-flsw",
        "dvc exp run --queue -S 'distill.method=kd,ka-ps,dtd-flsw'",
        "dvc queue start",
        "dvc exp show",
        "dvc plots show",
    ):
        assert needed in commands


def test_readme_commands_run_in_order(clone: Path) -> None:
    outputs = {}
    for command in readme_commands():
        outputs[command] = run(command, clone)
        if command.startswith("dvc queue start"):
            wait_for_queue(clone)
            stop_workers(clone)
    shown = next(text for command, text in outputs.items() if command.startswith("dvc exp show"))
    for method in ("ka-ps+dtd-flsw", "kd", "ka-ps", "dtd-flsw"):
        assert re.search(rf"(│|\s){re.escape(method)}(\s|│)", shown), shown
    [columns] = re.findall(r"the table fits\s+(\d+) columns", (clone / "README.md").read_text())
    assert max(map(len, shown.splitlines())) <= int(columns)
    for column in ("top1.mean", "top1.std", "genetic", "distill.method"):
        assert column in shown, shown
    page = (clone / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page and "learning_curves" in page and "confusion" in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_commands_quote_as_a_shell_reads_them() -> None:
    for command in readme_commands():
        assert shlex.split(command)
