"""`prepkd plan`: its figures equal those of the stores written later; arithmetic, table, errors."""

import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.cli import app
from prepkd.costs.cost import Cost, Memory, Rates, StoreCost
from prepkd.costs.memory import TrialAnswers, allocated, caching_memory, in_flight, training_memory
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import StoredTensor, Tensors, make_encoding
from prepkd.store.layout import READING_THREADS, Layout
from prepkd.store.place import open_place
from prepkd.store.reader import LogitStore
from prepkd.store.writer import StoreWriter
from prepkd.teacher.cached import CachedTeacher
from prepkd.views import ViewPlan
from ruamel.yaml import YAML
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/plan.md"
ISSUED = "plan --samples 1281167 --classes 1000 --views 300 --encoding topk --gpus 8 --teacher-images-per-second 2500"
PLAN = ViewPlan([{"crop": {"padding": 1}}, "flip"], 3, 7, 22)
FEATURES = Tensors((StoredTensor("map", (3, 2), "float16"), StoredTensor("signs", (9,), "bits")))
ENCODINGS = {name: make_encoding({"name": name}, 20) for name in ("f16", "u8", "i16", "topk", "sampled")} | {
    "tensors": FEATURES
}


def prepkd(line: str, *, code: int = 0, columns: int = 200) -> str:
    """Run a command and return its standard output, or all of its output if it fails."""
    done = CliRunner().invoke(app, shlex.split(line), env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == code, (line, done.output, done.exception)
    return done.output if code else done.stdout


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create prepared digits and the default settings, shrunk, whose models have stages."""
    folder = tmp_path_factory.mktemp("project")
    yaml = YAML()
    params: dict[str, Any] = yaml.load(ROOT / "params.yaml")
    params["prepare"]["subset"] = 10
    params["distill"]["student"] = "resnet8"
    params["compare"]["students"] = ["resnet8"]
    yaml.dump(params, folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PREPKD_SCRATCH", str(folder / "scratch"))
        prepkd("prepare")
    return folder


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the project the working directory."""
    monkeypatch.chdir(project)
    return project


def written(layout: Layout, folder: Path) -> Path:
    """Write a store of made-up answers in this layout."""
    path, classes = folder / "made.zarr", getattr(layout.encoding, "classes", 2)
    described = {
        "dataset": {"name": "made-up", "fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "classes": classes},
        "split": "train",
        "teacher": {"name": "large", "model": "none", "weights_fingerprint": "e" * 64},
        "views": layout.plan.describe(),
        "encoding": layout.encoding.describe(),
        "precision": {"arithmetic": "ieee", "batch_size": 4, "device": "cpu, 1 threads"},
    }
    writer = StoreWriter(open_place(path, write=True), layout, Attributes.made_from(described), path)
    encoded = TrialAnswers(layout).encoded
    for view, chunk in writer.pending():
        writer.write(view, chunk, {name: array[: layout.length(chunk)] for name, array in encoded.items()})
    writer.finish(np.arange(layout.plan.samples) % classes)
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("chunk", [8, 22])
def test_bytes_and_files_are_those_of_the_store(encoding: str, chunk: int, tmp_path: Path) -> None:
    layout = Layout(PLAN, ENCODINGS[encoding], chunk)
    cost = StoreCost.of("large", None, layout, 1)
    path = written(layout, tmp_path)
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    chunks = {key: size for key, size in sizes.items() if "/c/" in key}
    of_a_view = sum(size for key, size in chunks.items() if re.search(r"/c/2/", key))
    assert cost.files == len(sizes) and cost.views == 3
    if encoding == "i16":
        assert cost.compressed and sum(chunks.values()) <= cost.bytes + 16 * len(chunks)
    else:
        assert not cost.compressed and (cost.bytes, cost.epoch_bytes) == (sum(chunks.values()), of_a_view)


def test_allocated_counts_what_is_alive_at_once() -> None:
    given = torch.ones(1000)  # 4,000 bytes, allocated before
    assert allocated(lambda: given.view(10, 100)[3:]) == 0
    assert allocated(lambda: given.add_(1)) == 0
    assert allocated(lambda: given + 1) == 4_000
    assert allocated(lambda: ((given + 1) + 1) + 1) == 8_000  # each sum frees the one before it, except the last
    assert allocated(lambda: (given + 1, given.double(), given > 0)) == 4_000 + 8_000 + 1_000


@pytest.mark.parametrize("encoding", ["f16", "u8", "topk", "sampled"])
def test_memory_of_answers_is_that_of_two_slabs_and_more(encoding: str, tmp_path: Path) -> None:
    """At least two epochs' answers are held, and memory is proportional to the samples."""
    layout = Layout(PLAN, ENCODINGS[encoding], 22)
    teacher = CachedTeacher(
        LogitStore.open(written(layout, tmp_path)), torch.device("cpu"), resident=False, resident_gib=0
    )
    held = sum(one.untyped_storage().nbytes() for one in teacher(0).values())
    once = training_memory([[layout]])
    assert 2 * held <= once <= 8 * held
    larger = Layout(ViewPlan(PLAN.recipe, 3, 7, 22_000), ENCODINGS[encoding], 22_000)
    assert training_memory([[larger]]) == pytest.approx(1000 * once, rel=0.01)
    assert training_memory([[layout], [layout]]) == pytest.approx(once + 2 * held, rel=0.01)  # two views per step
    assert training_memory([[larger]], resident=True) > training_memory([[larger]])
    assert caching_memory(larger) > 1000 * 22 * layout.bytes_per_row


@pytest.mark.parametrize("encoding", ["f16", "u8", "topk", "sampled"])
def test_files_that_are_read_at_once_count(encoding: str) -> None:
    layout = Layout(ViewPlan(PLAN.recipe, 3, 7, 220), ENCODINGS[encoding], 22)
    found = {}
    for count in (1, 10):
        with zarr.config.set({"async.concurrency": count}):
            assert 0 <= in_flight(layout) - count * 22 * layout.bytes_per_row <= count * 16 * len(layout.fields)
            found[count] = training_memory([[layout]])
    assert found[10] - found[1] >= 9 * 22 * layout.bytes_per_row


@pytest.mark.parametrize("encoding", ["u8", "topk", "sampled"])
def test_chunks_that_are_read_back_at_once_count(encoding: str) -> None:
    """Each is read whole and checked: at least its file and its decoded rows. Computing an `f16` chunk takes as much."""
    alone, many = (
        caching_memory(Layout(ViewPlan(PLAN.recipe, views, 7, 2200), ENCODINGS[encoding], 2200))
        for views in (1, READING_THREADS)
    )
    read = 2 * 2200 * Layout(ViewPlan(PLAN.recipe, 1, 7, 2200), ENCODINGS[encoding], 2200).bytes_per_row
    assert many >= READING_THREADS * read and many > alone


def test_encoding_on_fewer_rows_takes_as_much_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(ViewPlan(["flip"], 1, 0, 4096), ENCODINGS["topk"], 4096)
    few = caching_memory(layout)
    monkeypatch.setattr("prepkd.costs.memory.ROWS", 1024)
    assert caching_memory(layout) == pytest.approx(few, rel=0.01)


def made_up(**changes: Any) -> Cost:
    """Return the cost of 10 samples and 6 views, for logits and features; an epoch reads 1,000 bytes: one view of both."""
    stores = [StoreCost(name, "large", name, 6, 1, 50, 3_000, 500, 9, False) for name in ("logits", "at")]
    known = Cost(10, 2, 6, "flip", "f16", ("large",), 1, 4, stores, Memory(1, 1), Rates(2, 5.0, 7.0, 4_000.0))
    return replace(known, **changes)


def test_figures_by_hand() -> None:
    cost = made_up()
    assert (cost.bytes, cost.files, cost.epoch_bytes, cost.teacher_images) == (6_000, 18, 1_000, 120)
    assert cost.teacher_hours == 120 / 10 / 3600  # two GPUs of five images per second
    assert cost.bytes_per_second == 1_000 / 10 * 14
    # An epoch of a live teacher takes 1 s and reading an epoch 0.25 s: the 12 s of caching are saved after 16 epochs.
    assert cost.break_even_epochs == pytest.approx(16) and cost.break_even_students == 4
    assert made_up(rates=Rates()).break_even_epochs == 12  # twelve passes, without the time for reading
    assert made_up(rates=Rates(2, 5.0, None, 1_000.0)).break_even_epochs is None  # reading is as slow
    assert made_up(views_per_step=0).break_even_epochs is None
    assert made_up(epochs=None).break_even_students is None
    assert (cost.student_images, cost.student_hours) == (40, 40 / 14 / 3600)  # two GPUs of seven images per second
    assert made_up(epochs=None).student_hours is None and made_up(rates=Rates()).student_hours is None


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 12),
    st.floats(1, 1e4),
    st.floats(10, 1e6),
)
def test_break_even_is_where_the_sums_cross(views: int, gpus: int, epochs: int, teacher: float, disk: float) -> None:
    """Summed student by student, caching costs more before the break-even and no more after it."""
    stores = [StoreCost("logits", "large", None, views, 1, 50, 500 * views, 500, 9, False)]
    cost = made_up(stores=stores, epochs=epochs, rates=Rates(gpus, teacher, None, disk))
    answer, read = 10 / (teacher * gpus), 500 / disk
    if (students := cost.break_even_students) is None:
        assert read >= answer * (1 - 1e-9)
        return
    for count, paid in ((students, True), (students - 1, False)):
        cached, online = views * answer + count * epochs * read, count * epochs * answer
        assert (cached <= online) == paid or math.isclose(cached, online)


def test_the_issued_command_says_everything_without_a_project(empty: Path) -> None:
    printed = prepkd(ISSUED, columns=60)
    assert max(map(len, printed.splitlines())) <= 60
    found = json.loads(prepkd(f"{ISSUED} --json"))
    assert found["teacher_images"] == 300 * 1_281_167 and found["break_even_epochs"] == 300
    assert found["teacher_hours"] == pytest.approx(300 * 1_281_167 / 2500 / 8 / 3600)
    # 16 float16, 16 uint16 and three float32 per row; five int16 for the views.
    assert found["stores"][0]["row_bytes"] == 16 * 2 + 16 * 2 + 3 * 4 + 5 * 2
    assert found["files"] == 300 * 20 * 6 + 6 + 1 + 2  # a view in 20 chunks of 6 arrays
    for line in ("5.3 hours", "33.8 GB in 36,009 files", "300 epochs of students", "assumed"):
        assert line in " ".join(printed.split()), line
    assert not list(empty.iterdir())


def test_known_rates_give_students_and_a_reading_rate(empty: Path) -> None:
    more = "--epochs 100 --student-images-per-second 1500 --disk-megabytes-per-second 500"
    found = json.loads(prepkd(f"{ISSUED} {more} --json"))
    assert found["break_even_students"] == 4 and 300 < found["break_even_epochs"] < 302
    assert found["bytes_per_second"] == pytest.approx(found["epoch_bytes"] / 1_281_167 * 12_000)
    assert found["student_hours"] == pytest.approx(100 * 1_281_167 / 12_000 / 3600)
    printed = prepkd(f"{ISSUED} {more}")
    assert "4 students of 100 epochs" in printed and "3.0 hours for 128,116,700 images" in printed


def test_settings_and_data_are_read_and_options_override(inside: Path) -> None:
    found = json.loads(prepkd("plan --json"))
    assert (found["samples"], found["classes"], found["views"], found["epochs"]) == (100, 10, 9, 30)
    assert found["memory"]["images"] == 8 * 8 * (100 + 100) and found["teacher_hours"] is None  # both splits
    other = json.loads(prepkd("plan --json --samples 500 --classes 40 --views 4 --encoding topk --epochs 3"))
    assert (other["samples"], other["classes"], other["views"], other["epochs"]) == (500, 40, 4, 3)
    assert other["encoding"] == "topk (k 16)" and other["break_even_students"] == 2
    wide = json.loads(prepkd("plan --json -S augment_strong=['flip'] -S distill.views_per_step=2"))
    assert wide["epoch_bytes"] == 2 * wide["bytes"] / 18 and wide["break_even_epochs"] == 9
    assert json.loads(prepkd("plan --json -S distill.method=ce"))["epoch_bytes"] == 0


def test_features_cost_what_their_terms_ask(inside: Path) -> None:
    """Features cost the bytes that `prepkd methods --check` states, and one more pass of the teacher."""
    asked = json.loads(prepkd("methods --check kd+at --json"))["bytes"]
    options = "-S cache.features=[at,pooled] -S distill.method=kd+at -S cache.views=2"
    logits, at, pooled = json.loads(prepkd(f"plan --json {options}"))["stores"]
    assert (at["name"], at["row_bytes"]) == ("at of large", asked + 2)  # plus two int8 for the crop
    assert at["bytes"] == 2 * (100 * (asked + 2) + 4 * 4)  # three maps and the views, each with a checksum
    assert (logits["views_read"], at["views_read"], pooled["views_read"]) == (1, 1, 0)
    found = json.loads(prepkd(f"plan --json {options}"))
    assert found["teacher_images"] == 3 * 2 * 100 and found["break_even_epochs"] == 6
    # A term that is missing from cache.features would have to be cached as well.
    assert len(json.loads(prepkd("plan --json -S distill.method=kd+at"))["stores"]) == 2


def test_several_teachers(inside: Path) -> None:
    one, two = (
        json.loads(prepkd(f"plan --json -S distill.teachers={names}")) for names in ("[large]", "[large,small]")
    )
    assert two["bytes"] == 2 * one["bytes"] and two["teacher_images"] == 2 * one["teacher_images"]
    assert (
        two["break_even_epochs"] == one["break_even_epochs"] and two["memory"]["training"] > one["memory"]["training"]
    )


def test_measured_teacher(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.costs.measured.SECONDS", 0.0)
    found = json.loads(prepkd("plan --measure --json"))
    assert found["rates"]["teacher"] > 0
    assert found["teacher_hours"] == pytest.approx(900 / found["rates"]["teacher"] / 3600)
    for options, said in (
        ("--gpus 1", "for 900 images at 10 images/s"),
        ("--gpus 2", "for 900 images, 2 GPUs at 10 images/s each"),
    ):
        assert said in " ".join(prepkd(f"plan --teacher-images-per-second 10 {options}").split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan", "give --samples, --classes and --views"),
        ("plan --samples 9 --classes 3", "give --samples, --classes and --views"),
        ("plan --samples 9 --classes 3 --views all", "expected a count"),
        ("plan --samples 9 --classes 3 --views none", "expected a whole number"),
        ("plan --samples 9 --classes 3 --views 0", "expected >= 1"),
        ("plan --samples 9 --classes 300 --views 3 --encoding zip", "'f16', 'u8'"),
        ("plan --samples 9 --classes 3 --views 3 --encoding topk", "below the number of classes"),
        ("plan --samples 99999999999 --classes 9 --views 9", "files; expected <="),
        (f"{ISSUED} --student-images-per-second nan", "expected 0.001 to 1e+12"),
        (f"{ISSUED} --disk-megabytes-per-second 0", "expected 0.001 to 1e+12"),
        (f"{ISSUED} --disk-megabytes-per-second inf", "expected 0.001 to 1e+12"),
        (f"{ISSUED} --measure", "give one of them"),
        ("plan --measure", "params.yaml: no such file"),
        ("plan -S cache.views=3", "params.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line(empty: Path, line: str, said: str) -> None:
    printed = prepkd(line, code=2)
    assert said in printed and len(printed.splitlines()) == 1


def test_a_project_without_data(empty: Path) -> None:
    (empty / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "or give --samples and --classes" in prepkd("plan", code=2)
    assert json.loads(prepkd("plan --samples 10 --classes 9 --json"))["memory"]["images"] is None
    assert "data/digits.h5" in prepkd("plan --samples 10 --classes 9 -S cache.features=[pooled]", code=2)


def test_the_page_runs_as_printed(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.costs.measured.SECONDS", 0.0)
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.M | re.S)).replace("\\\n", " ").splitlines()
    assert len(lines) >= 4
    for line in lines:
        monkeypatch.chdir(tmp_path if "--samples 1281167" in line else inside)
        assert "paid for after" in prepkd(line.removeprefix("prepkd "))
