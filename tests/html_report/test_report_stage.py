"""`prepkd report` in a project in which every stage has run, and in projects that lack files."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from commands import enter
from prepkd.data.prepared.file import load_split
from prepkd.errors import InputError
from prepkd.html_report.parts import PageSection
from prepkd.html_report.results import Results
from prepkd.html_report.sections.repaired import repaired
from prepkd.html_report.sections.temperatures import extremes
from prepkd.methods.kl import upcast
from prepkd.project.params import load_params
from prepkd.stages._comparison import grid
from prepkd.stages._project import DETAILS
from prepkd.stages._trained_on import trained_on
from prepkd.store import LogitStore
from prepkd.views import parse_recipe
from whole_project import SETTINGS

prepkd = partial(commands.prepkd, **SETTINGS)
TITLES = ["Methods compared", "Learning curves", "Teacher errors that KA repairs", "Temperatures", "Accuracy by class"]
TITLES += ["Confusions and genetic errors", "Calibration", "Accuracy and cost", "Provenance"]


@pytest.fixture
def project(whole_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the whole project, as the current folder."""
    return enter(shutil.copytree(whole_project, tmp_path / "project"), monkeypatch)


def read(project: Path) -> Results:
    """The results as the command reads them."""
    params = load_params(project / "params.yaml", [f"{k.replace('__', '.')}={v}" for k, v in SETTINGS.items()])
    return Results(
        params.distill,
        grid(params),
        Path("data/digits.h5"),
        students={seed: Path(f"models/student/seed{seed}") for seed in (0, 1)},
        teachers={"large": Path("models/teachers/large")},
        stores={"large": "data/logits/large.zarr"},
        trained_on=partial(trained_on, params),
        recipe=parse_recipe(params.augment),
        device=torch.device("cpu"),
        training=Path("results/training"),
        comparison=Path("results/compare"),
    )


def titles(page: str) -> list[str]:
    """The headings of the page's sections; Vega's script after the footer contains headings, too."""
    return re.findall(r"<h2[^>]*>([^<]+)</h2>", page.partition("<footer>")[0])


def test_a_page_of_everything(project: Path) -> None:
    said = prepkd("report")
    page = (project / "results/report.html").read_text()
    assert titles(page) == TITLES and "results/report.html: " in said and "left out" not in said
    assert page.count("data:image/png;base64,") >= 24
    assert len(page) < 4e6, "pictures and data are bounded"
    metrics = json.loads(DETAILS.read_text())
    assert f"{metrics['top1']['mean']:.2%}" in page
    made = LogitStore.open("data/logits/large.zarr").manifest_sha256
    assert made in page
    prepkd("report")  # a page that prepkd wrote is replaced
    assert (project / "results/report.html").read_text() == page


@pytest.mark.parametrize(
    ("gone", "absent", "command"),
    [
        ("results/compare/table.csv", "Methods compared", "dvc repro compare/dvc.yaml"),
        ("results/training", "Learning curves", "prepkd distill"),
        ("data/logits/large.zarr", "Teacher errors that KA repairs", "prepkd cache-logits large"),
    ],
)
def test_a_section_without_its_files_is_named_with_the_command(
    project: Path, gone: str, absent: str, command: str
) -> None:
    path = project / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = prepkd("report")
    page = (project / "results/report.html").read_text()
    assert absent not in titles(page) and "Not in this report" in titles(page)
    assert f"left out: {absent}" in said and command in said
    assert f"<strong>{absent}</strong>" in page and command in page


def test_data_and_stores_are_enough(project: Path) -> None:
    shutil.rmtree(project / "models/teachers")
    said = prepkd("report")
    shown = titles((project / "results/report.html").read_text())
    assert {"Methods compared", "Teacher errors that KA repairs", "Accuracy by class", "Calibration"} <= set(shown), (
        said
    )


def test_students_of_a_store_that_was_imported_anew_are_left_out(project: Path) -> None:
    shutil.rmtree(project / "models/teachers")
    assert "Accuracy by class" in prepkd_titles()
    store = LogitStore.open("data/logits/large.zarr")
    np.save("other.npy", np.stack([store.logits(view)[::-1] for view in range(store.views)]))
    plan = ["--recipe", json.dumps(store.plan.describe()["recipe"]), "--views", str(store.views)]
    prepkd("import", "other.npy", "large", *plan, "--seed", str(store.plan.describe()["seed"]), "--replace")
    assert "Accuracy by class" not in prepkd_titles()
    assert "models/student/seed0: inputs.teacher.large is" in prepkd("report")


def prepkd_titles() -> list[str]:
    """The headings of a new report."""
    prepkd("report")
    return titles(Path("results/report.html").read_text())


def test_results_of_other_data_are_refused_by_name(project: Path) -> None:
    card = project / "models/student/seed0/model.json"
    card.write_text(card.read_text().replace("convnet4", "convnet8"))
    assert "model.json: damaged" in prepkd("report")


def test_files_of_others_stay(project: Path) -> None:
    (project / "results/report.html").write_text("<html>mine</html>")
    said = prepkd("report", code=2)
    assert "results/report.html: expected a file that prepkd wrote" in said
    assert (project / "results/report.html").read_text() == "<html>mine</html>"


def test_an_empty_project_has_nothing_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    shutil.copy(commands.ROOT / "params.yaml", tmp_path)
    said = prepkd("report", code=2)
    assert "error: no results to report" in said and "dvc repro" in said
    assert not (tmp_path / "results/report.html").exists()


def cards(section: PageSection) -> list:
    return list(section.parts[0].cards)


def test_before_and_after_are_the_teachers_answers(project: Path) -> None:
    """Cards agree with the store: the teacher errs there, and KA swaps the label's probability with the largest."""
    results = read(project)
    store, labels = LogitStore.open("data/logits/large.zarr"), load_split(Path("data/digits.h5"), "train").labels
    found = cards(repaired(results))
    assert found
    tau, confidences = results.settings.kd.tau, []
    for card in found:
        sample, view = map(int, re.findall(r"sample (\d+), view (\d+)", card.facts[0])[0])
        probs = (upcast(torch.from_numpy(store.logits(view)[sample])) / tau).softmax(dim=-1)
        label = int(labels[sample])
        assert card.title == f"label {label}" and int(probs.argmax()) != label
        before, after = card.bars["before"], card.bars["after"]
        assert [bar.share for bar in before] == pytest.approx(sorted(probs.tolist(), reverse=True)[:5], abs=1e-3)
        assert after[0].marked and after[0].share == pytest.approx(float(probs.max()), abs=1e-3)
        confidences.append(float(torch.from_numpy(store.logits(view)[sample]).softmax(dim=-1).max()))
    assert confidences == sorted(confidences, reverse=True)


def test_a_store_of_other_samples_has_no_errors_to_show(project: Path) -> None:
    results = read(project)
    vars(results)["train"] = replace(results.train, fingerprint="0" * 64)
    said = r"large.zarr against data/digits.h5: dataset.split_fingerprint is .*; run `prepkd cache-logits large` again"
    for section in (repaired, extremes):
        with pytest.raises(InputError, match=said):
            section(results)


def test_extremes_are_ordered_by_temperature(project: Path) -> None:
    sharp, soft = extremes(read(project))
    values = [[float(card.title.split()[-1]) for card in one.cards] for one in (sharp, soft)]
    assert values[0] == sorted(values[0]) and values[1] == sorted(values[1], reverse=True)
    assert max(values[0]) <= min(values[1])
