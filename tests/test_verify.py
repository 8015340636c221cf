"""`prepkd verify`: a correct store passes, a wrong one fails, and an inconclusive comparison is WITHHELD."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from click.testing import Result
from prepkd.cli import app
from prepkd.data.prepared.file import load_split
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models import Normalised, load_checkpoint
from prepkd.models.checkpoint import save_checkpoint
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import as_tensors, words_of
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.verification.controls import CONTROLS, changed_rows
from prepkd.verification.discrepancy import TOLERANCES, Discrepancy, live_reference, measure_discrepancy
from prepkd.verification.live_teacher import verify_store
from prepkd.verification.query import Query
from prepkd.verification.sampling import draw_pairs
from prepkd.views.crop import Crop
from torch import Tensor
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
ENCODINGS = ["f16", "u8", "i16", "topk", "sampled"]
CPU = torch.device("cpu")
SETTINGS = {
    "prepare.subset": 20,
    "augment": "[{crop: {padding: 1}}, flip]",
    "teachers.large.model": "convnet16",
    "teachers.large.epochs": 3,
    "cache.views": 4,
    "cache.batch_size": 64,
    "cache.topk.k": 4,
    "cache.sampled.n": 5,
    "distill.student": "convnet4",
    "distill.epochs": 1,
    "distill.seeds": "[0]",
}


def prepkd(*arguments: str, columns: int = 200, **changes: object) -> Result:
    """Run a stage with settings; keys of `changes` have __ for dots."""
    settings = SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
    options = [part for key, value in settings.items() for part in ("-S", f"{key}={value}")]
    return CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": str(columns)})


def verify(store: str, *arguments: str, code: int, columns: int = 200) -> Result:
    """Run `prepkd verify`."""
    done = CliRunner().invoke(app, ["verify", store, *arguments], env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == code, (done.output, done.exception)
    return done


def refused(store: str, *arguments: str) -> str:
    """The error line of `prepkd verify`; standard output stays empty."""
    done = verify(store, *arguments, code=2)
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.output
    return done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, a teacher, and its store in each encoding; no settings file."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PREPKD_SCRATCH", str(folder / "scratch"))
        assert prepkd("prepare").exit_code == 0
        assert prepkd("train-teacher", "large").exit_code == 0
        for encoding in ENCODINGS:
            done = prepkd("cache-logits", "large", cache__encoding=encoding, cache__root=encoding)
            assert done.exit_code == 0, done.output
    (folder / "params.yaml").unlink()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREPKD_SCRATCH", str(folder / "scratch"))
    return folder


def opened(folder: Path, encoding: str = "f16") -> tuple[LogitStore, Normalised, Samples]:
    store = LogitStore.open(folder / encoding / "large.zarr")
    teacher, _ = load_checkpoint(folder / "models/teachers/large")
    return store, teacher, Samples.of(load_split(folder / "data/digits.h5", "train"), CPU)


def verified(store: LogitStore, teacher: Normalised, samples: Samples, *, count: int, seed: int) -> dict[str, Any]:
    """The verification as JSON."""
    return verify_store(store, teacher, samples, count=count, seed=seed).as_json()


Change = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]


def rewritten(store: LogitStore, target: Path, change: Change, **sections: Any) -> LogitStore:
    """A finished copy of a store with changed rows, view by view; `sections` replace attributes."""
    attributes = Attributes.made_from(store.attributes.sections | sections)
    writer = StoreWriter(open_place(target, write=True), store.layout, attributes, target)

    for view, chunk in list(writer.pending()):
        stored, part = change(view, as_tensors(store.stored(view))), store.layout.slice(chunk)
        writer.write(view, chunk, {name: array[part] for name, array in stored.items()})
    writer.finish(np.zeros(store.samples, np.int64))
    return LogitStore.open(target)


def changed_section(store: LogitStore, section: str, **values: object) -> Attributes:
    """The store's attributes with other values in one section; its fingerprint stays."""
    described = store.attributes.model_dump()
    return Attributes.model_validate(described | {section: described[section] | values})


def same(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored


def one_view_rolled(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of view 2 are shifted by one."""
    return {name: array.roll(1, dims=0) for name, array in stored.items()} if view == 2 else stored


def ignorant(folder: Path) -> None:
    """Replace the teacher by one that gives the same logits for every image."""
    model, card = load_checkpoint(folder / "models/teachers/large")
    torch.nn.init.zeros_(model.body.fc.weight)  # type: ignore[union-attr,arg-type]
    save_checkpoint(folder / "models/teachers/large", model, card)


# Measured numbers.


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_correct_store_passes_and_every_control_fails(finished: Path, encoding: str) -> None:
    report = verified(*opened(finished, encoding), count=200, seed=3)
    assert report["verdict"] == "PASS", report["why"]
    assert list(report["controls"]) == list(CONTROLS) and report["not_applicable"] == {}
    assert report["teacher"]["within"] and report["teacher"]["top1"] == 1
    for name, control in report["controls"].items():
        assert not control["within"], name
        assert control["dz"] > 3 * report["teacher"]["dz"], name
    assert report["pixels"]["replayed"] == report["pixels"]["sha256"]
    assert list(report["pixels"]["by_view"]) == ["0", "1", "2", "3"]
    assert len(set(report["pixels"]["by_view"].values())) == 4
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("encoding", ["f16", "u8", "i16"])
def test_figures_are_those_of_a_plain_computation(finished: Path, encoding: str) -> None:
    store, teacher, samples = opened(finished, encoding)
    found = verified(store, teacher, samples, count=60, seed=9)["teacher"]
    differences, divergences, agreed = [], {1: [], 4: []}, []
    for view, sample in zip(*draw_pairs(store, 60, 9), strict=True):
        row = torch.from_numpy(store.plan.parameters(int(view), np.array([sample])))
        with torch.no_grad():
            z = teacher(store.plan.render(samples.images[sample : sample + 1], row))[0].double().numpy()
        kept = store.logits(int(view))[sample].astype(np.float64)
        differences.append(np.abs(z - kept).max())
        agreed.append(z.argmax() == store.slab(int(view))[0][sample].argmax())
        for tau, values in divergences.items():
            p, q = (np.exp(row / tau) / np.exp(row / tau).sum() for row in (z, kept))
            values.append((p * np.log(p / q)).sum())
    assert found["dz"] == pytest.approx(max(differences), rel=1e-2)
    assert found["kl_1"] == pytest.approx(np.mean(divergences[1]), rel=1e-2, abs=1e-12)
    assert found["kl_4"] == pytest.approx(np.mean(divergences[4]), rel=1e-2, abs=1e-12)
    assert found["top1"] == np.mean(agreed)
    assert found["rows"] == 60


def test_pairs_are_drawn_once_from_the_views_that_are_here(finished: Path) -> None:
    store, _, _ = opened(finished)
    pairs = list(zip(*(part.tolist() for part in draw_pairs(store, 300, 5)), strict=True))
    assert len(pairs) == len(set(pairs)) == 300
    assert pairs == list(zip(*(part.tolist() for part in draw_pairs(store, 300, 5)), strict=True))
    assert pairs[:9] != list(zip(*(part.tolist() for part in draw_pairs(store, 9, 6)), strict=True))
    views, chosen = draw_pairs(store, 10**6, 5)
    assert set(zip(views, chosen, strict=True)) == {(v, i) for v in range(4) for i in range(store.samples)}
    store.present = [1, 3]
    assert set(draw_pairs(store, 300, 5)[0]) == {1, 3}


def test_a_store_that_was_fetched_in_part_is_verified_on_what_is_there(project: Path) -> None:
    copy = project / "part.zarr"
    shutil.copytree("f16/large.zarr", copy)
    (copy / "partial.json").write_text("{}")
    for array in ("logits", "row_max", "params"):
        shutil.rmtree(copy / array / "c/2")
    report = json.loads(verify("part.zarr", "--json", code=0).stdout)
    assert report["verdict"] == "PASS" and report["views"] == [0, 1, 3]


# Controls.


def query(store: LogitStore, views: list[int], chosen: list[int]) -> Query:
    """A query of images whose pixels all equal their sample's index."""
    plain = Normalised(torch.nn.Identity(), Preprocessing((0.0,), (1.0,)))
    numbers = torch.arange(store.samples, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    samples = Samples(numbers, torch.zeros(store.samples, dtype=torch.int64))
    return Query.of(plain, store.plan, samples, np.array(views), np.array(chosen))


def test_no_shuffled_sample_stays_in_its_place_however_often_it_was_drawn(finished: Path) -> None:
    store, _, _ = opened(finished)
    generator = np.random.Generator(np.random.Philox(0))
    for _ in range(50):
        chosen = generator.integers(0, 5, size=generator.integers(2, 12)).tolist()
        other = CONTROLS["shuffled index"](store, query(store, [0] * len(chosen), chosen))
        if 2 * max(map(chosen.count, chosen)) > len(chosen):
            assert other == "one sample is half of the draw"
            continue
        assert isinstance(other, Query)
        shown = other.shown.tolist()
        assert sorted(shown) == sorted(chosen) and all(a != b for a, b in zip(shown, chosen, strict=True))


def test_controls_change_what_they_say_and_nothing_else(finished: Path) -> None:
    store, _, _ = opened(finished)
    asked = query(store, [0, 3, 2], [7, 8, 9])
    flipped = CONTROLS["inverted flip"](store, asked)
    assert isinstance(flipped, Query)
    assert np.array_equal(flipped.parameters[:, :2], asked.parameters[:, :2])
    assert np.array_equal(flipped.parameters[:, 2] + asked.parameters[:, 2], [1, 1, 1])
    following = CONTROLS["neighbouring view"](store, asked)
    assert isinstance(following, Query)
    expected = [store.plan.parameters(view)[sample] for view, sample in ((1, 7), (0, 8), (3, 9))]
    assert np.array_equal(following.parameters, expected)
    assert following.shown is asked.shown and flipped.shown is asked.shown
    assert CONTROLS["wrong normalisation"](store, asked) == "the teacher takes pixels as they are"
    other = CONTROLS["wrong normalisation"](
        store, replace(asked, model=Normalised(torch.nn.Identity(), Preprocessing((0.2,), (0.5,))))
    )
    assert isinstance(other, Query)
    assert torch.equal(other.model(torch.full((1, 1, 2, 2), 0.7)), torch.full((1, 1, 2, 2), 0.7))


def test_only_rows_whose_pixels_change_count(finished: Path) -> None:
    store, _, _ = opened(finished)
    asked = query(store, [0, 0, 0], [0, 1, 0])
    asked.samples.images[2, 0, :, 0] = 9  # the one picture that is not its own mirror, wherever it is cropped
    asked.samples.images[2, 0, :, 1] = 8
    asked = replace(asked, shown=np.array([2, 1, 0]))
    flipped = CONTROLS["inverted flip"](store, replace(asked, parameters=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]])))
    assert isinstance(flipped, Query)
    assert changed_rows(
        store, replace(asked, parameters=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]])), flipped
    ).tolist() == [
        True,
        False,
        False,
    ]


def test_no_control_means_no_verdict(finished: Path, tmp_path: Path) -> None:
    store, teacher, samples = opened(finished)
    black = Samples(torch.zeros_like(samples.images), samples.labels)
    teacher = Normalised(teacher.body, Preprocessing((0.0,), (1.0,)))
    with torch.no_grad():
        answer = teacher(torch.zeros(1, 1, 8, 8)).expand(store.samples, -1)
    encoded = store.encoding.encode(answer, samples.labels)
    made_of_black = rewritten(store, tmp_path / "black.zarr", lambda view, stored: encoded)
    replayed = verified(store, teacher, black, count=9, seed=0)["pixels"]["replayed"]
    made_of_black.attributes = changed_section(made_of_black, "pixels", sha256=replayed)
    report = verified(made_of_black, teacher, black, count=50, seed=0)
    assert report["controls"] == {} and set(report["not_applicable"]) == set(CONTROLS)
    assert report["verdict"] == "WITHHELD" and "no control applies" in report["why"]


# Wrong stores.


def shifted_maxima(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"row_max": stored["row_max"] + 0.02}


def raised_tail(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"tail": torch.minimum(stored["tail"] + 0.01, torch.tensor(-1e-3))}


def raised_lse(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"lse": stored["lse"] + 0.01}


def raised_threshold(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"threshold": stored["threshold"] + 0.01}


def other_draws(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The answers are right, the classes those of other words."""
    store, teacher, samples = opened(Path.cwd(), "sampled")
    raw = torch.from_numpy(_raw(store, teacher, samples, view))
    words = words_of(store.encoding, store.plan, (view + 1) % store.views)
    return store.encoding.encode(raw, samples.labels, words)


def drawn_as_fixed(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"fixed": (stored["fixed"] + 1).clamp(max=4)}


def one_class_moved(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    logits = stored["logits"].clone()
    logits[:, 3] -= (logits[:, 3] < 0).to(logits.dtype)
    return stored | {"logits": logits}


@pytest.mark.parametrize(
    ("encoding", "change"),
    [(encoding, one_view_rolled) for encoding in ENCODINGS]
    + [(encoding, shifted_maxima) for encoding in ENCODINGS]
    + [("f16", one_class_moved), ("topk", raised_tail), ("topk", raised_lse)]
    + [("sampled", change) for change in (raised_tail, raised_lse, raised_threshold, other_draws, drawn_as_fixed)],
)
def test_changed_answers_fail_whatever_the_encoding(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, change: Change
) -> None:
    monkeypatch.chdir(finished)
    store, teacher, samples = opened(finished, encoding)
    report = verified(rewritten(store, tmp_path / "t.zarr", change), teacher, samples, count=200, seed=3)
    assert report["verdict"] == "FAIL" and "logits are not the stored ones" in report["why"]
    assert not any(control["within"] for control in report["controls"].values())
    true = verified(rewritten(store, tmp_path / "s.zarr", same), teacher, samples, count=200, seed=3)
    assert true["verdict"] == "PASS"


def test_a_label_without_its_logit_fails(finished: Path, tmp_path: Path) -> None:
    store, teacher, samples = opened(finished, "topk")
    # As if the store had been written with other labels.
    views = {
        view: store.encoding.encode(torch.from_numpy(_raw(store, teacher, samples, view)), (samples.labels + 1) % 10)
        for view in range(store.views)
    }
    other = rewritten(store, tmp_path / "t.zarr", lambda view, stored: views[view])
    report = verified(other, teacher, samples, count=200, seed=3)
    expected = sum(
        samples.labels[sample] not in views[int(view)]["ids"][sample]
        for view, sample in zip(*draw_pairs(store, 200, 3), strict=True)
    )
    assert report["labels_left_out"] == expected > 0
    assert report["verdict"] == "FAIL" and f"{expected} rows lack their label's logit" in report["why"]


def _raw(store: LogitStore, teacher: Normalised, samples: Samples, view: int) -> Any:
    with torch.no_grad():
        return teacher(store.plan.render(samples.images, torch.from_numpy(store.plan.parameters(view)))).numpy()


def test_logits_that_are_not_finite_are_outside(finished: Path) -> None:
    store, _, samples = opened(finished)
    stored = {name: array[:5] for name, array in as_tensors(store.stored(0)).items()}
    raw = torch.from_numpy(store.logits(0)[:5])
    labels = samples.labels[:5]
    assert compared(store, stored, raw, labels).within
    for value in (torch.nan, torch.inf, -torch.inf):
        for where in ("live", "logits", "row_max"):
            changed, other = raw.clone(), {name: array.clone() for name, array in stored.items()}
            {"live": changed, **other}[where][2] = value
            found = compared(store, other, changed, labels)
            assert not found.within and found.not_finite == 1, (value, where)
    both, infinite = raw.clone(), stored["row_max"].clone()
    both[2], infinite[2] = torch.inf, torch.inf  # equal, and no less wrong
    assert not compared(store, stored | {"row_max": infinite}, both, labels).within


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])  # NaN means "missing": no writer finishes such a store
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_value_that_is_not_finite_fails_whatever_else_is_wrong(
    finished: Path, tmp_path: Path, encoding: str, value: float
) -> None:
    """One infinite maximum would have made the tolerance infinite, and every other maximum could be off by 1,000."""
    store, teacher, samples = opened(finished, encoding)

    def spoiled(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        row_max = stored["row_max"] + 1000
        row_max[::7] = value
        return stored | {"row_max": row_max}

    wrong = rewritten(store, tmp_path / "t.zarr", spoiled)
    report = verify_store(wrong, teacher, samples, count=200, seed=3).as_json()
    with pytest.raises(InputError, match="row_max"):  # other readers of the same store still refuse them
        wrong.stored(0)
    assert report["verdict"] == "FAIL" and "rows hold values that are not finite, stored or live" in report["why"]
    assert report["teacher"]["not_finite"] > 10
    allowed = report["teacher"]["allowed"]["excess"]
    assert 0 < allowed < 1
    json.dumps(report, allow_nan=False)


def widened_offsets(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """An offset of -60,000 has a rounding error of 16, which the suspect would claim for itself."""
    logits = stored["logits"].clone()
    logits[::5, 0] = torch.where(logits[::5, 0] < 0, -60_000, logits[::5, 0].double()).to(logits.dtype)
    return stored | {"logits": logits, "row_max": stored["row_max"] + 10}


def widened_steps(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"step": stored["step"] * 2}


def widened_maxima(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """A share of the largest logit is tolerated: larger ones would allow themselves more."""
    row_max = stored["row_max"].clone()
    row_max[::50] += 1e6
    return stored | {"row_max": torch.where(row_max > 1e5, row_max, row_max + 1)}


@pytest.mark.parametrize(
    ("encoding", "change"),
    [("f16", widened_offsets), ("topk", widened_offsets), ("u8", widened_steps)]
    + [(encoding, widened_maxima) for encoding in ENCODINGS],
)
def test_stored_values_set_no_limit(finished: Path, tmp_path: Path, encoding: str, change: Change) -> None:
    store, teacher, samples = opened(finished, encoding)
    true = verified(store, teacher, samples, count=200, seed=3)["teacher"]
    report = verified(rewritten(store, tmp_path / "t.zarr", change), teacher, samples, count=200, seed=3)
    assert report["verdict"] == "FAIL" and report["teacher"]["allowed"] == true["allowed"]
    assert report["teacher"]["excess"] > 10 * true["allowed"]["excess"]


def compared(store: LogitStore, stored: dict[str, Tensor], raw: Tensor, labels: Tensor) -> Discrepancy:
    words = words_of(store.encoding, store.plan, 0, slice(0, len(raw)))
    reference = live_reference(store.encoding, raw, labels, words)
    return measure_discrepancy(store.encoding, stored, raw, reference, store.attributes.precision.arithmetic)


def test_rounding_is_within_and_more_is_not(finished: Path) -> None:
    """bf16's tolerance accepts float32 rounding; float32's tolerance rejects bf16 rounding."""
    store, teacher, samples = opened(finished)
    written = store.attributes
    store.attributes = changed_section(store, "precision", arithmetic="bf16")
    assert verified(store, teacher, samples, count=200, seed=1)["verdict"] == "PASS"
    assert TOLERANCES["ieee"].dz < TOLERANCES["tf32"].dz < TOLERANCES["bf16"].dz
    views, chosen = draw_pairs(store, 200, 1)
    raw = torch.from_numpy(store.lookup(views, chosen))
    labels = samples.labels[torch.from_numpy(chosen)]
    rounded = raw * (1 + 2.0**-7)
    stored = store.encoding.encode(raw, labels)
    assert compared(store, stored, rounded, labels).within
    store.attributes = written
    assert not compared(store, stored, rounded, labels).within


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_maximum_by_rounding_is_within(finished: Path, encoding: str) -> None:
    """Two classes a rounding apart change places: what the encoding does to the live maximum is no bound for the other."""
    store, _, samples = opened(finished, encoding)
    store.attributes = changed_section(store, "precision", arithmetic="bf16")
    raw = torch.from_numpy(store.logits(0)[:200])
    best = raw.topk(2, dim=-1)
    second = best.indices[:3, 1]
    rows = torch.arange(3)
    raw[rows, second] = best.values[:3, 0] - 1e-4
    live = raw.clone()
    live[rows, second] = best.values[:3, 0] + 1e-4
    labels = samples.labels[:200]
    assert (live.argmax(-1) != raw.argmax(-1)).sum() == 3
    assert compared(
        store, store.encoding.encode(raw, labels, words_of(store.encoding, store.plan, 0, slice(0, 200))), live, labels
    ).within


# The command.


def test_pass_is_exit_code_0_and_the_same_seed_gives_the_same_figures(project: Path) -> None:
    first, again, other = (
        verify("f16/large.zarr", "--seed", seed, "--samples", "90", "--json", code=0).stdout for seed in ("4", "4", "5")
    )
    assert first == again != other
    report = json.loads(first)
    assert report["verdict"] == "PASS" and report["samples"] == 90 and report["seed"] == 4
    assert first == json.dumps(report, sort_keys=True, indent=2) + "\n"
    assert report["device"] == report["written_on"] == "cpu, 1 threads"
    drawn = json.loads(verify("f16/large.zarr", "--json", code=0).stdout)
    seed = str(drawn["seed"])
    assert json.loads(verify("f16/large.zarr", "--json", "--seed", seed, code=0).stdout) == drawn


def test_a_narrow_terminal_shows_every_row(project: Path) -> None:
    lines = verify("u8/large.zarr", "--seed", "1", code=0, columns=60).stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 60
    starts = ("teacher", "shuffled index", "inverted flip", "neighbouring view", "wrong")
    rows = [next(line for line in lines if line.startswith(start)) for start in starts]
    assert rows[0].endswith("within") and all(row.endswith("outside") for row in rows[1:])
    assert all(sum(part[0].isdigit() for part in row.split()) == 4 for row in rows)
    assert lines[-1].startswith("PASS: 512 stored rows of 4 views") and "all 4 controls failed" in lines[-1]
    text = " ".join(line.strip() for line in lines)
    assert "--seed 1 draws them again" in text
    assert "pixels of views 0, 3, samples 0 to 63: sha256 " in text
    assert "equal to what was recorded as the store was written" in text
    assert "tolerance: |dz| beyond the encoding's error" in text


def test_a_stores_own_claim_of_bf16_does_not_loosen_the_settings(project: Path) -> None:
    """Written as bf16 says, and off by what bf16 would explain and float32 would not."""
    store = opened(project)[0]
    claimed = store.attributes.model_dump()["precision"] | {"arithmetic": "bf16"}
    rewritten(
        store, project / "t.zarr", lambda _, stored: stored | {"row_max": stored["row_max"] + 0.008}, precision=claimed
    )
    last = verify("t.zarr", "--seed", "0", code=0).stdout
    assert "the rounding of bf16" in " ".join(last.split())
    verify("t.zarr", "--precision", "ieee", code=1)
    shutil.copy(ROOT / "params.yaml", project)
    report = json.loads(verify("t.zarr", "--json", code=1).stdout)
    assert (report["precision"], report["tolerance"], report["verdict"]) == ("bf16", "ieee", "FAIL")
    assert json.loads(verify("t.zarr", "--precision", "bf16", "--json", code=0).stdout)["tolerance"] == "bf16"
    assert "--precision is 'half'; expected one of ieee, tf32, bf16" in refused("t.zarr", "--precision", "half")
    # Settings looser than the claim loosen nothing either.
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  precision: ieee", "  precision: bf16"))
    assert json.loads(verify("f16/large.zarr", "--json", code=0).stdout)["tolerance"] == "ieee"


def test_a_tampered_store_fails_with_exit_code_1(project: Path) -> None:
    rewritten(opened(project)[0], project / "t.zarr", one_view_rolled)
    last = verify("t.zarr", "--seed", "0", code=1).stdout.splitlines()[-1]
    assert last.startswith("FAIL: the live teacher's logits are not the stored ones")
    assert json.loads(verify("t.zarr", "--json", "--seed", "0", code=1).stdout)["verdict"] == "FAIL"


def test_a_teacher_that_ignores_its_input_is_withheld_and_a_tampered_store_of_it_fails(project: Path) -> None:
    ignorant(project)
    shutil.copy(ROOT / "params.yaml", project)
    assert prepkd("cache-logits", "large", cache__root="blind").exit_code == 0
    last = verify("blind/large.zarr", code=1).stdout.splitlines()[-1]
    assert last.startswith("WITHHELD: ") and all(name in last for name in CONTROLS)
    store = LogitStore.open("blind/large.zarr")
    rewritten(store, project / "t.zarr", shifted_maxima)
    assert verify("t.zarr", code=1).stdout.splitlines()[-1].startswith("FAIL: ")


def test_pixels_that_are_rendered_otherwise_fail_though_no_logit_differs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignorant(project)
    shutil.copy(ROOT / "params.yaml", project)
    assert prepkd("cache-logits", "large", cache__root="blind").exit_code == 0
    recorded = LogitStore.open("blind/large.zarr").attributes.pixels.sha256
    render = Crop.render
    monkeypatch.setattr(Crop, "render", lambda *arguments: render(*arguments).roll(1, dims=-1))
    report = json.loads(verify("blind/large.zarr", "--json", code=1).stdout)
    assert report["teacher"]["within"] and report["verdict"] == "FAIL"
    assert report["pixels"]["replayed"] != recorded
    last = verify("blind/large.zarr", code=1).stdout.splitlines()[-1]
    replayed = report["pixels"]["replayed"][:12]
    assert last == f"FAIL: the replayed pixels' hash is {replayed}, the store says {recorded[:12]}"


def test_another_teacher_is_refused_naming_the_field_and_both_values(project: Path) -> None:
    _, card = load_checkpoint(project / "models/teachers/large")
    shutil.copytree("models/teachers/large", "models/teachers/own")
    ignorant(project)
    _, other = load_checkpoint(project / "models/teachers/large")
    text = refused("f16/large.zarr")
    values = f"is {card['weights_fingerprint'][:12]}, expected {other['weights_fingerprint'][:12]}"
    assert f"f16/large.zarr against models/teachers/large: teacher.weights_fingerprint {values}; name the " in text
    assert "--teacher" in text
    assert refused("f16/large.zarr", "--teacher", "models/teachers/large") == text
    verify("f16/large.zarr", "--teacher", "models/teachers/own", code=0)


def test_other_data_is_refused_naming_the_field_and_both_values(project: Path) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    shutil.copy("data/digits.h5", "own.h5")
    assert prepkd("prepare", "--replace", prepare__seed=3).exit_code == 0
    own, other = (load_split(Path(path), "train").fingerprint[:12] for path in ("own.h5", "data/digits.h5"))
    text = refused("f16/large.zarr")
    assert f"f16/large.zarr against data/digits.h5: dataset.split_fingerprint is {own}, expected {other}; name " in text
    assert "--data" in text
    verify("f16/large.zarr", "--data", "own.h5", code=0)


def test_what_is_missing_is_named_with_the_option_that_brings_it(project: Path) -> None:
    assert "none.zarr: no such store" in refused("none.zarr")
    shutil.rmtree("models")
    text = refused("f16/large.zarr")
    assert "models/teachers/large/" in text and "--teacher" in text
    shutil.rmtree("data")
    text = refused("f16/large.zarr")
    assert "data/digits.h5: no such file" in text and "--data" in text
    assert "--seed" in verify("f16/large.zarr", "--seed", "-1", code=2).output


def test_an_imported_store_needs_a_teacher_to_compare_with(project: Path) -> None:
    store = opened(project)[0]
    unknown = {"weights_fingerprint": None, "preprocessing": None, "model": "imported", "name": "large"}
    nobody = {"arithmetic": "unknown", "batch_size": None, "device": "unknown"}
    rewritten(store, project / "i.zarr", same, teacher=unknown, precision=nobody)
    text = refused("i.zarr")
    assert "imported" in text and "can't be verified" in text and "--teacher" in text
    report = json.loads(verify("i.zarr", "--json", "--teacher", "models/teachers/large", code=0).stdout)
    assert report["imported"] and report["precision"] == "unknown" and report["verdict"] == "PASS"
    rewritten(store, project / "j.zarr", one_view_rolled, teacher=unknown, precision=nobody)
    verify("j.zarr", "--teacher", "models/teachers/large", code=1)


def test_a_store_at_a_url_is_verified(project: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put("f16/large.zarr", "/verify/large.zarr", recursive=True)
    assert json.loads(verify("memory://verify/large.zarr", "--json", code=0).stdout)["verdict"] == "PASS"


def test_integrity_counts_the_files_or_names_the_damaged_ones(project: Path) -> None:
    files = [path for path in Path("f16/large.zarr").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    shutil.rmtree("models")  # neither teacher nor data
    shutil.rmtree("data")
    text = verify("f16/large.zarr", "--integrity", code=0).stdout
    assert text == f"intact: {len(files):,} files, {size:,} bytes\n"
    report = json.loads(verify("f16/large.zarr", "--integrity", "--json", code=0).stdout)
    assert (report["intact"], report["files"], report["bytes"], report["damages"]) == (True, len(files), size, [])
    chunk = Path("f16/large.zarr/logits/c/2/0/0")
    content = bytearray(chunk.read_bytes())
    content[7] ^= 1
    chunk.write_bytes(content)
    lines = verify("f16/large.zarr", "--integrity", code=1, columns=60).stdout.splitlines()
    assert lines[-1] == "damaged: 1 file" and "logits" in lines[1]
    report = json.loads(verify("f16/large.zarr", "--integrity", "--json", code=1).stdout)
    assert [(d["array"], d["chunk"]) for d in report["damages"]] == [("logits", "logits/c/2/0/0")]
    assert "none.zarr" in refused("none.zarr", "--integrity")


def test_help_fits_a_narrow_terminal(tmp_path: Path) -> None:
    text = commands.run("prepkd verify --help", tmp_path, COLUMNS="60", TERM="dumb")
    assert max(map(len, text.splitlines())) <= 60
    assert "--integrity" in text and "params.yaml" in text


# Before distillation.


def test_distill_refuses_a_store_whose_first_batch_is_not_the_teachers(project: Path) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    rewritten(opened(project)[0], project / "bad/large.zarr", shifted_maxima)
    done = prepkd("distill", cache__root="bad")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
    assert "bad/large.zarr: view " in done.stderr and "the live teacher's logits differ by" in done.stderr
    assert "`prepkd verify bad/large.zarr` looks closer" in done.stderr
    assert not Path("models/student").exists() and not Path("results").exists()
    assert prepkd("distill", cache__root="f16").exit_code == 0
    shutil.rmtree("models/student")
    shutil.move("models/teachers/large", "large")  # no teacher to query
    done = prepkd("distill", cache__root="bad")
    assert done.exit_code == 0, done.output
    assert Path("models/student/seed0/model.json").is_file()
