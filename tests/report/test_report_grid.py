"""The comparison's files from made-up test logits: each run is measured against its own teachers, over its own seeds."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prepkd.data.prepared.file import Split
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.models.checkpoint import FORMAT, write_card
from prepkd.project.params import Params
from prepkd.report import grid as grid_module
from prepkd.report.added import AddedStudents
from prepkd.report.bars import bars
from prepkd.report.grid import tabulate
from prepkd.runtime.files import fingerprint
from prepkd.stages._comparison import grid
from prepkd.teacher.loaded import describe_teacher
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.predictions import write_results
from torch import Tensor

COUNT, CLASSES = 200, 4
LABELS = np.arange(COUNT) % CLASSES
TEST = Split(np.zeros((COUNT, 1, 1, 1), np.uint8), LABELS, "test-split")
RIGHT = {"large": 190, "small": 150}  # teacher -> correct predictions


def answers(right: int) -> Tensor:
    """Logits that are correct on the first `right` samples, and predict the next class on the rest."""
    labels = torch.from_numpy(LABELS)
    predicted = torch.where(torch.arange(COUNT) < right, labels, (labels + 1) % CLASSES)
    return 3.0 * torch.nn.functional.one_hot(predicted, CLASSES).float()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two teachers; pictures, which take a second each, are drawn in one test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid_module, "bars", lambda tables, path: None)
    for name, right in RIGHT.items():
        folder = tmp_path / "models/teachers" / name
        card = {
            "format": FORMAT,
            "name": name,
            "model": "convnet4",
            "num_classes": CLASSES,
            "in_channels": 1,
            "preprocessing": {"mean": [0.5], "std": [0.5]},
            "weights_fingerprint": fingerprint(name),
        }
        folder.mkdir(parents=True)
        write_card(folder, card)
        made_from = {"weights_fingerprint": card["weights_fingerprint"], "test_fingerprint": TEST.fingerprint}
        write_results(folder / "test_logits.safetensors", {0: answers(right)}, made_from)
    return tmp_path


def params(*runs: str, teachers: list[str] | None = None, **distill: Any) -> Params:
    training = {"teacher": "large", "student": "convnet8", "epochs": 3, "seeds": 3}
    return Params.model_validate(
        {
            "prepare": {"dataset": "digits"},
            "teachers": {name: {"model": "convnet4", "epochs": 1} for name in RIGHT},
            "cache": {"views": 1},
            "distill": training | distill,
            "compare": {"runs": list(runs), "teachers": teachers or []},
        }
    )


def train(chosen: Params, *, right: int = 160, seeds: list[int] | None = None) -> None:
    """Write the file of every run, as `prepkd compare --run` would."""
    for runs in grid(chosen).values():
        for text, run in runs.items():
            settings = run.settings
            taught = {
                name: {"teacher": fingerprint(describe_teacher(json.loads((folder / "model.json").read_text())))}
                for name, folder in run.teachers.items()
            }
            made_from = {
                "run": text,
                "test_fingerprint": TEST.fingerprint,
                "training": settings.model_dump(mode="json"),
                "teacher": taught if settings.parsed_method.needs_teacher else None,
                "training_version": TRAINING_VERSION,
            }
            logits = {seed: answers(right + 2 * seed) for seed in seeds or settings.seed_list}
            write_results(run.path, logits, made_from)


def test_added_students_stand_in_every_pairs_table_against_its_teacher() -> None:
    """Added students have a row in every pair's table, with differences over the seeds that the baseline has."""
    chosen = params("kd", teachers=["large", "small"])
    train(chosen)  # 160, 162 and 164 correct predictions
    mine = AddedStudents(Path("students/mine"), "resnet8", {seed: answers(170 + seed) for seed in (0, 1, 5)})
    text = tabulate(grid(chosen), TEST, Path("results/compare"), {"mine": mine})
    long, wide, table = (pd.read_csv(f"results/compare/{name}.csv") for name in ("long", "wide", "table"))
    rows = table[table["run"] == "mine"]
    assert rows["pair"].to_list() == ["large -> convnet8", "small -> convnet8"]
    assert rows["teacher"].to_list() == ["large", "small"] and set(rows["student"]) == {"resnet8"}
    assert rows["minus_kd_points"].to_list() == pytest.approx([100 * (10 + 9) / 2 / COUNT] * 2)
    assert rows["minus_kd_seeds"].to_list() == [2, 2]
    # Teacher and student both predict the next class when wrong, so the student's errors include the teacher's.
    assert rows["genetic_errors_percent"].to_list() == pytest.approx([100 * 10 / COUNT, 100 * 28 / COUNT])
    assert sorted(long.loc[long["run"] == "mine", "seed"]) == [0, 0, 1, 1, 5, 5]
    column = wide.set_index("run").loc["mine", "large -> resnet8, top1_percent"]
    assert column == pytest.approx(100 * 172 / COUNT)
    assert text.count("Not trained here: `mine` (students/mine).") == 2


def tables(
    chosen: Params, folder: Path = Path("results/compare")
) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    text = tabulate(grid(chosen), TEST, folder)
    long, wide, table = (pd.read_csv(folder / f"{name}.csv") for name in ("long", "wide", "table"))
    assert (folder / "table.md").read_text() == text
    return text, long, wide, table.set_index("run")


@pytest.mark.parametrize("runs", [["kd", "kd,teacher=small"], ["kd,teacher=small", "kd"]])
def test_each_run_is_measured_against_the_teacher_that_taught_it(runs: list[str]) -> None:
    """Agreement and genetic errors are against each run's own teacher, in either order of runs with equal students."""
    chosen = params(*runs)
    train(chosen)
    text, long, wide, table = tables(chosen)
    assert table["teacher"].to_dict() == {"kd": "large", "kd,teacher=small": "small"}
    # They agree where both are right, and where both are wrong (the same wrong class).
    assert table.loc["kd", "agreement_percent"] == pytest.approx(100 - (30 + 28 + 26) / 3 / 2)
    assert table.loc["kd,teacher=small", "agreement_percent"] == pytest.approx(100 - (10 + 12 + 14) / 3 / 2)
    assert table.loc["kd", "genetic_errors_percent"] == pytest.approx(5)
    assert table.loc["kd,teacher=small", "genetic_errors_percent"] == pytest.approx((40 + 38 + 36) / 3 / 2)
    assert (long["teacher"] == long["run"].map(table["teacher"])).all()
    assert set(wide.columns) == {
        "run",
        *(f"{name} -> convnet8, top1_{of}percent" for name in RIGHT for of in ("", "std_")),
    }
    shown = {"`large`: 95.00 %", "`small`: 75.00 %"}
    caption = text.splitlines()[-1]
    assert caption.startswith("Teachers ") and all(one in caption for one in shown)


def test_the_picture_has_a_line_for_each_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, float]] = []
    monkeypatch.setattr(
        grid_module, "bars", lambda found, path: (drawn.extend(dict(t) for _, t in found.values()), bars(found, path))
    )
    chosen = params("kd", "kd,teacher=small")
    train(chosen)
    tables(chosen)
    assert drawn == [{"large": pytest.approx(95), "small": pytest.approx(75)}]
    assert Path("results/compare/top1.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_teachers_folder_what_compares_with_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures against a missing teacher folder are left out; students are then checked against the store's teacher."""
    monkeypatch.setattr(grid_module, "bars", bars)
    chosen = params("ce", "kd", "kd,teacher=small")
    train(chosen)
    taught = fingerprint(describe_teacher(json.loads(Path("models/teachers/large/model.json").read_text())))
    shutil.rmtree("models/teachers/large")

    class Stored:
        attributes = SimpleNamespace(fingerprints={"teacher": taught})

        @classmethod
        def open(cls, url: str, *, teacher: str) -> type["Stored"]:
            assert (url, teacher) == ("data/logits/large.zarr", "large")
            return cls

    monkeypatch.setattr("prepkd.report.run_logits.LogitStore", Stored)
    text, long, _, table = tables(chosen)
    against = ["agreement_percent", "genetic_errors_percent"]
    assert table.loc[["ce", "kd"], against].isna().all(axis=None) and long["top1_percent"].notna().all()
    assert table.loc["kd,teacher=small", against].notna().all() and "nan" not in text
    assert "Agreement and genetic errors left out: no models/teachers/large." in text and "`small`: 75.00 %" in text
    shutil.rmtree("models/teachers/small")
    text, *_ = tables(params("ce", "kd"))
    assert text.splitlines()[-1].startswith("Agreement and genetic errors left out: no models/teachers/large. Mean +-")
    Stored.attributes = SimpleNamespace(fingerprints={"teacher": "b" * 64})
    with pytest.raises(
        InputError, match=r"kd\.safetensors: inputs\.teacher\.large is \w{12}, expected bbbbbbbbbbbb; run"
    ):
        tables(params("ce", "kd"))


def test_one_teacher_is_named_alone() -> None:
    chosen = params("ce", "kd")
    train(chosen)
    text, *_ = tables(chosen)
    assert text.splitlines()[-1].startswith("Teacher `large`: 95.00 % test top-1.") and "small" not in text


def test_an_ensemble_is_measured_against_itself_as_it_is_combined() -> None:
    """Two ways to combine the same teachers count as two teachers; a run of their pair may name one of them."""
    both = "kd,teachers=[large,small]"
    chosen = params(both, f"{both},ensemble.combine=logits", "kd,teacher=small", teachers=["large+small"])
    assert chosen.variant("kd,teacher=small", "large+small").teacher_names == ["small"]
    train(chosen)
    text, _, _, table = tables(chosen)
    assert table["teacher"].tolist() == ["large+small", "large+small", "small"]
    caption = text.splitlines()[-1]
    for one in ("`large+small (probabilities at tau 4)`: ", "`large+small (logits)`: ", "`small`: 75.00 %"):
        assert one in caption


def test_a_run_that_names_its_teacher_is_one_run_in_a_grid_of_teachers() -> None:
    chosen = params("kd", "kd,teacher=small", teachers=["large", "small"])
    train(chosen)
    text, long, wide, table = tables(chosen)
    key = ["teacher", "student", "run", "seed"]
    assert len(long) == 9 and not long.duplicated(key).any()
    assert table["pair"].tolist() == ["large -> convnet8"] * 2 + ["small -> convnet8"] * 2
    assert np.isnan(wide.set_index("run").loc["kd,teacher=small", "large -> convnet8, top1_percent"])
    assert "nan" not in text


def test_a_run_that_names_its_student_says_so() -> None:
    chosen = params("kd", "kd,student=convnet4")
    train(chosen)
    *_, table = tables(chosen)
    assert table["student"].to_dict() == {"kd": "convnet8", "kd,student=convnet4": "convnet4"}


def test_settings_that_a_run_does_not_use_do_not_refuse_it() -> None:
    chosen = params("kd", "ce", "ka-ps", "dtd-flsw")
    train(chosen)
    same: dict[str, Any] = {
        "ka": {"eps": 0.3, "lsr_weight": "1/tau"},  # only ka-lsr uses them
        "dtd": {"cwsm": {"beta": 0.7}},
        "dkd": {"beta": 2.0},
        "rld": {"tau_a": 2.0},
        "at": {"weight": 3.0},
        "adamw": {"eps": 1e-6},
        "lr_decay": 0.5,
        "ensemble": {"combine": "logits"},
        "evaluate_every": 3,
        "checkpoint_every": 1,
    }
    first = tables(chosen)[0]
    for key, value in same.items():
        assert tables(params("kd", "ce", "ka-ps", "dtd-flsw", **{key: value}))[0] == first, key


@pytest.mark.parametrize(
    ("run", "changes", "said"),
    [
        ("kd", {"kd": {"tau": 7.0}}, "training.kd.tau is 4.0, expected 7.0"),
        (
            "ka-lsr",
            {"ka": {"eps": 0.3}},
            "training.ka.eps is 0.1, expected 0.3",
        ),
        ("dtd-flsw", {"dtd": {"tau_max": 9.0}}, "training.dtd.tau_max is 40.0, expected 9.0"),
        ("kd", {"optimizer": "adamw", "adamw": {"eps": 1e-6}}, "training.optimizer is sgd, expected adamw"),
        ("kd", {"schedule": "multi-step", "milestones": [2]}, "training.schedule is cosine, expected multi-step"),
        ("kd", {"momentum": 0.8}, "training.momentum is 0.9, expected 0.8"),
        ("ce", {"epochs": 4}, "training.epochs is 3, expected 4"),
    ],
)
def test_settings_that_a_run_uses_refuse_it(run: str, changes: dict[str, Any], said: str) -> None:
    train(params(run))
    with pytest.raises(InputError) as caught:
        tables(params(run, **changes))
    assert said in str(caught.value) and f"run `prepkd compare --run '{run}'`" in str(caught.value)


def test_fewer_teachers_than_a_run_had_refuse_it() -> None:
    """A run of an ensemble is refused as a run of one of its teachers."""
    trained = params("kd", teachers=["large+small"])
    train(trained)
    path = Path("results/compare/runs")
    (path / "large").mkdir()
    (path / "large+small/convnet8").rename(path / "large/convnet8")
    with pytest.raises(InputError, match=r"training.teachers is \['large', 'small'\], expected \['large'\]"):
        tables(params("kd"))


def test_a_table_of_fewer_seeds_needs_no_training_and_one_of_more_does() -> None:
    train(params("kd", "ce"), seeds=[0, 1, 2])
    *_, table = tables(params("kd", "ce", seeds=2))
    assert table["n"].tolist() == [2, 2]
    *_, table = tables(params("kd", "ce", seeds=[2, 0, 1]))
    assert table["n"].tolist() == [3, 3]
    with pytest.raises(
        InputError, match=r"kd.safetensors: holds no seed 3, only 0, 1, 2; run `prepkd compare --run 'kd'`"
    ):
        tables(params("kd", "ce", seeds=5))


def test_runs_of_fewer_seeds_are_marked() -> None:
    chosen = params("kd", "ka-ps,seeds=[0,2]")
    train(chosen)
    text, _, _, table = tables(chosen)
    assert table["minus_kd_seeds"].dropna().tolist() == [2]
    assert "2 of 3 seeds" in text


@pytest.mark.parametrize(
    "path", ["results/compare/runs/large/convnet8/kd.safetensors", "models/teachers/large/test_logits.safetensors"]
)
def test_a_flipped_bit_is_refused(path: str) -> None:
    chosen = params("kd")
    train(chosen)
    content = bytearray(Path(path).read_bytes())
    content[-5] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: damaged: its sha256 is \w+, expected \w+; run `prepkd "):
        tables(chosen)


def test_a_runs_unknown_teacher_is_refused_before_any_work() -> None:
    with pytest.raises(
        ValueError,
        match=r"compare.runs: run 'kd,teacher=huge': teacher is 'huge'; expected a key of teachers: large, small",
    ):
        params("kd,teacher=huge")


def test_settings_as_files_keep_them_are_read_again() -> None:
    """Settings dumped in full, as in cards, load as the same settings."""
    settings = params("kd").distill
    assert Distill.model_validate(settings.model_dump(mode="json")).used(but=set()) == settings.used(but=set())


def test_names_in_the_tables_are_no_formulas() -> None:
    frame = pd.DataFrame({"top1_percent": [1.0], "run": ["=1+1"], "=2 -> a": [2.0]})
    assert grid_module._csv(frame) == b"run,top1_percent,'=2 -> a\n'=1+1,1,2\n"
