"""The loops and commands in README.md, docs/how-to/own-loop.md and docs/how-to/import.md run as printed."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import commands
import numpy as np
import prepkd
import pytest
import torch
from commands import ROOT
from imported_project import enter_imported_project
from torch.nn.functional import kl_div, log_softmax


def blocks(page: str, language: str, word: str) -> list[str]:
    """The page's code blocks that contain a word."""
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    return [block for block in found if word in block]


def run(code: str) -> dict[str, Any]:
    """Run a block and return the names that it defines."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "block", "exec"), names)
    return names


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_imported_project(tmp_path, monkeypatch)


def command(line: str) -> str:
    return commands.prepkd(*shlex.split(line)[1:])


def divergence(student: torch.nn.Module, tau: float) -> float:
    """Mean KL divergence on view 4 between the teacher's stored logits and the student's."""
    dataset = prepkd.ViewDataset("data/digits.h5", "data/logits/large.zarr", view=4)
    images, _, logits = zip(*dataset.__getitems__(range(len(dataset))), strict=True)
    with torch.no_grad():
        answers = student.eval()(torch.stack(images))
    ours, theirs = (log_softmax(z / tau, dim=1) for z in (answers, torch.stack(logits)))
    return kl_div(ours, theirs, reduction="batchmean", log_target=True).item()


def test_the_readmes_loop_teaches(project: Path) -> None:
    (code,) = blocks("README.md", "python", "ViewDataset")
    loop = code[code.index("for epoch") :].splitlines()
    assert len(loop) == 6 and "loss =" in loop[4], "five lines up to the loss"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        left = run(code)
        untaught = prepkd.build_model("convnet8", 10, in_channels=1)
    assert left["images"].shape[1:] == (1, 8, 8) and left["labels"].dtype == torch.int64
    taught, before = (divergence(student, left["tau"]) for student in (left["student"], untaught))
    assert taught < before / 3, (taught, before)


def test_the_readmes_other_block_runs(project: Path) -> None:
    (code,) = blocks("README.md", "python", "LogitStore")
    left = run(code)
    assert left["logits"].shape == (901, 10) and left["rows"].shape == (901, 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_documented_sampler_with_persistent_workers(project: Path) -> None:
    (code,) = blocks("docs/how-to/own-loop.md", "python", "ViewSampler")
    left = run(code)
    last = list(left["sampler"])[-len(left["labels"]) :]
    expected = left["dataset"].__getitems__(last)
    for got, wanted in zip(zip(left["images"], left["teacher_logits"], strict=True), expected, strict=True):
        assert torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[2])


def test_the_documented_import(project: Path) -> None:
    (code,) = blocks("docs/how-to/import.md", "python", "ViewPlan")
    left = run(code)
    saved = torch.load("views.pt", weights_only=True)
    assert saved.shape == (9, 901, 10)
    np.save("logits.npy", np.load("made-up.npy")[0])
    (commands,) = blocks("docs/how-to/import.md", "bash", "prepkd import")
    first, second = commands.splitlines()
    shutil.rmtree("data/logits/large.zarr")
    assert "views of" not in command(first) and prepkd.LogitStore.open("data/logits/large.zarr").views == 1
    (learn,) = blocks("docs/how-to/import.md", "bash", "prepkd distill")
    said = command("prepkd import logits.npy elsewhere").splitlines()[-1]
    assert shlex.split(said.removeprefix("to learn from it: ")) == shlex.split(learn.replace("\\\n", ""))
    command(second)
    store = prepkd.LogitStore.open("data/logits/large.zarr")
    assert store.plan.describe() == left["plan"].describe()
    for view in (0, 8):
        assert np.allclose(store.logits(view), saved[view].numpy(), atol=2e-3)
    # The page's teacher gives the stored logits for the data set's pixels.
    image, _, logits = prepkd.ViewDataset("data/digits.h5", "data/logits/large.zarr", view=8)[77]
    with torch.no_grad():
        assert torch.allclose(left["teacher"](image[None])[0], logits, atol=2e-3)


def test_the_documented_student_of_another_loop_is_measured(project: Path) -> None:
    (code,) = blocks("docs/how-to/own-loop.md", "python", "prepkd.save")
    exec(code, {"prepkd": prepkd, "student": prepkd.build_model("convnet8", 10, in_channels=1)})
    (line,) = blocks("docs/how-to/own-loop.md", "bash", "compare --add")
    said = command(f"{line.strip()} --measure mine")
    assert said == "results/compare/runs/added/mine.safetensors: seed 0 of convnet8\n"
