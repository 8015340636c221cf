"""The examples run, read another view in each epoch, and their students enter the comparison."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import commands
import prepkd
import pytest
import torch
from commands import ROOT
from imported_project import enter_imported_project
from prepkd.data.prepared.file import load_split

EPOCHS = 6
# Module -> the package that it needs beside prepkd.
EXAMPLES = {"plain_loop": "torch", "lightning_module": "pytorch_lightning", "huggingface_trainer": "transformers"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(ROOT / "examples")
    return enter_imported_project(tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore")  # from Lightning and Hugging Face
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_a_student_for_the_comparison(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(EXAMPLES[name], reason=f"{name}.py needs {EXAMPLES[name]}: pip install 'prepkd[examples]'")
    shown, plain = [], prepkd.ViewSampler.__iter__

    def noted(sampler: prepkd.ViewSampler) -> Iterator[tuple[int, int]]:
        shown.append(sampler.epoch)
        return plain(sampler)

    monkeypatch.setattr(prepkd.ViewSampler, "__iter__", noted)
    threads = torch.get_num_threads()
    try:
        importlib.import_module(name).main(["--epochs", str(EPOCHS), "--seeds", "1", "--out", "students/mine"])
    finally:
        torch.set_num_threads(threads)
    assert shown == list(range(EPOCHS)), "one view of each sample per epoch"
    assert commands.prepkd("compare", "--add", "mine=students/mine", "--measure", "mine").endswith("of convnet8\n")
    test = load_split(Path("data/digits.h5"), "test")
    with torch.inference_mode():
        logits = prepkd.load("students/mine/seed0")(torch.from_numpy(test.images).permute(0, 3, 1, 2))
    accuracy = (logits.argmax(dim=1).numpy() == test.labels).mean()
    assert accuracy > 0.5, "chance is 0.1"


def test_the_readme_lists_every_example() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\(\1\)", (ROOT / "examples/README.md").read_text(), re.M)
    assert sorted(listed) == sorted(
        path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")
    )


@pytest.mark.filterwarnings("ignore")  # from Jupyter
def test_the_tour_runs_and_its_outputs_are_small_and_name_no_machine(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient: pip install 'prepkd[examples]'")
    pytest.importorskip("ipykernel", reason="the notebook needs ipykernel: pip install 'prepkd[examples]'")
    import nbformat

    committed = (ROOT / "examples/tour.ipynb").read_text()
    assert len(committed) < 64_000 and not re.search(
        r"/(tmp|home|root|work|Users)/|0x[0-9a-f]{6}|\x1b|https?://", committed
    )
    book = nbformat.reads(committed, 4)
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code"), "committed with its outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(book, timeout=550, kernel_name="python3", resources=resources).execute(
        env=commands.environment(OMP_NUM_THREADS="1")
    )
    said = {
        kind: "".join(str(one.get(kind, "")) for cell in done.cells for one in cell.get("outputs", []))
        for kind in ("text", "data")
    }
    assert "'test': 896, 'train': 901" in said["text"] and "on 0.0% once repaired" in said["text"]
    assert "the teacher is wrong on" in said["text"] and "error" not in said["text"]
    assert said["data"].count("image/png") == 2
    assert re.search(r"`kd` .*`ka-ps\+dtd-flsw` .*`mine` .*Not trained here", said["data"], re.S)
