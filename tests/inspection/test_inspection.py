"""The numbers of `prepkd inspect` against loops in float64, for every encoding; its tables and its picture."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_store import CLASSES, ENCODINGS, SAMPLES, VIEWS, MadeUp, write
from PIL import Image
from prepkd.data.prepared.file import DataInfo, Split
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.display.console import TextConsole
from prepkd.display.text import printable
from prepkd.errors import InputError
from prepkd.inspection.counts import Counts, count_view, count_views
from prepkd.inspection.logit_statistics import choose_views, logit_statistics
from prepkd.inspection.picture import draw_picture
from prepkd.inspection.softness import BINS, confidence_and_entropy
from prepkd.inspection.store_facts import ChunkCount, StoreFacts, read_facts
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.tables import tables
from prepkd.inspection.temperatures import dtd_temperatures
from prepkd.models import Normalised, build_model, save_checkpoint
from prepkd.store.attributes import FORMAT, Attributes
from prepkd.training.student_settings import Distill
from prepkd.views.order import sample_order

NAMES = tuple(f"class-{k}" for k in range(CLASSES))


@pytest.fixture(scope="module", params=ENCODINGS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write(tmp_path_factory.mktemp("stores") / "made-up.zarr", request.param)


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write(tmp_path_factory.mktemp("stores") / "made-up.zarr", "f16")


def read(made: MadeUp) -> tuple[Split, DataInfo]:
    generator = np.random.Generator(np.random.Philox(4))
    images = generator.integers(0, 256, (SAMPLES, 8, 8, 1), dtype=np.uint8)
    info = DataInfo("made-up", NAMES, (8, 8, 1), {"train": SAMPLES}, "d" * 64, {"train": "5" * 64})
    return Split(images, made.labels.numpy(), "5" * 64), info


def statistics(
    made: MadeUp, views: list[int], data: tuple[Split, DataInfo] | None, missing: str = ""
) -> dict[str, Any]:
    """The statistics of a store's logits as JSON, at tau 4."""
    return logit_statistics(made.store, views, data, 4.0, missing).as_json()


def naive_softmax(row: Any, tau: float) -> list[float]:
    top = max(float(z) for z in row)
    weights = [math.exp((float(z) - top) / tau) for z in row]
    return [weight / sum(weights) for weight in weights]


def naive_wrong(made: MadeUp, views: list[int]) -> list[list[bool]]:
    """Whether the label is below the maximum of the raw logits: no encoding may change that."""
    raw, labels = made.raw.tolist(), made.labels.tolist()
    return [[raw[v][i][labels[i]] < max(raw[v][i]) for i in range(SAMPLES)] for v in views]


@pytest.mark.parametrize("views", [[0, 1, 2], [1], [0, 2]])
def test_what_ka_would_change(made: MadeUp, views: list[int]) -> None:
    wrong = naive_wrong(made, views)
    times = [sum(wrong[v][i] for v in range(len(views))) for i in range(SAMPLES)]
    assert 0 < sum(times) < len(views) * SAMPLES and max(times) == len(views)
    report = statistics(made, views, read(made))
    assert report["ka"] == {
        "rows": len(views) * SAMPLES,
        "rows_wrong": sum(times),
        "samples": SAMPLES,
        "samples_wrong_in_a_view": sum(n > 0 for n in times),
        "samples_wrong_in_all_views": sum(n == len(views) for n in times),
        "samples_by_wrong_views": [times.count(n) for n in range(len(views) + 1)],
    }


def test_errors_per_view_and_class(made: MadeUp) -> None:
    wrong, raw, labels = naive_wrong(made, [0, 1, 2]), made.raw.tolist(), made.labels.tolist()
    report = statistics(made, [0, 1, 2], read(made))
    per_view = [sum(row) / SAMPLES for row in wrong]
    errors = report["teacher_error"]
    assert errors.pop("per_view") == pytest.approx(per_view)
    spread = {"mean": sum(per_view) / 3, "min": min(per_view), "median": sorted(per_view)[1], "max": max(per_view)}
    assert errors == pytest.approx(spread)
    found = {row["class"]: row for row in report["class_error"]}
    assert set(found) == {NAMES[k] for k in labels}
    for k in set(labels):
        places = [(v, i) for v in range(VIEWS) for i in range(SAMPLES) if labels[i] == k]
        bad = [raw[v][i].index(max(raw[v][i])) for v, i in places if wrong[v][i]]
        row = found[NAMES[k]]
        assert row["rows"] == len(places)
        assert row["error"] == pytest.approx(len(bad) / len(places))
        if bad:
            most = max(bad.count(c) for c in bad)
            assert row["taken_for"] == next(NAMES[c] for c in range(CLASSES) if bad.count(c) == most)
        else:
            assert row["taken_for"] is None
    errors = [row["error"] for row in report["class_error"]]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("tau", [1.0, 0.5, 4.0])
def test_confidence_and_entropy(made: MadeUp, tau: float) -> None:
    views = [0, 2]
    report = logit_statistics(made.store, views, None, tau, "no labels").as_json()
    for name, top in (("confidence", 1.0), ("entropy", math.log(CLASSES))):
        found = report[name]
        assert set(found) == {"1", f"{tau:g}", "edges"}
        assert found["edges"] == pytest.approx([top * i / BINS for i in range(BINS + 1)])
        for one in {1.0, tau}:
            values = []
            for view in views:
                for row in made.store.slab(view)[0]:
                    p = naive_softmax(row, one)
                    values.append(max(p) if name == "confidence" else -sum(q * math.log(q) for q in p if q > 0))
            counts = [0] * BINS
            for value in values:
                counts[min(int(value / top * BINS), BINS - 1)] += 1
            assert found[f"{one:g}"]["histogram"] == counts
            assert found[f"{one:g}"]["mean"] == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_fixed_points_of_confidence_and_entropy() -> None:
    flat, sharp = torch.zeros(1, 8), torch.tensor([[0.0] + [-1e4] * 7])
    for tau in (1.0, 4.0):
        confidence, entropy = confidence_and_entropy(torch.cat([flat, sharp]), tau)
        assert confidence.tolist() == pytest.approx([1 / 8, 1.0])
        assert entropy.tolist() == pytest.approx([math.log(8), 0.0])
        assert confidence.dtype == torch.float64
        shifted = confidence_and_entropy(torch.cat([flat, sharp]) + 30, tau)
        assert torch.allclose(shifted[0], confidence) and torch.allclose(shifted[1], entropy)
    # On the very edge of the last bin, and not outside of it.
    assert count_view(flat, None, [1.0]).entropy[1.0].histogram.tolist() == [0] * (BINS - 1) + [1]


def numbers(counts: Counts) -> dict[str, Any]:
    """Every number of the counts, by name."""
    assert counts.errors is not None
    binned = {"confidence": counts.confidence, "entropy": counts.entropy}
    return {
        "rows": counts.rows,
        **{f"{name}@{tau}": one.histogram for name, by_tau in binned.items() for tau, one in by_tau.items()},
        **{f"{name}@{tau} sum": one.total for name, by_tau in binned.items() for tau, one in by_tau.items()},
        **vars(counts.errors),
    }


def test_counts_do_not_depend_on_how_rows_are_split(f16: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count_views(f16.store, [0, 1], lambda _: f16.labels, [1.0])
    monkeypatch.setattr("prepkd.inspection.softness.ROWS", 5)
    parts = count_views(f16.store, [0, 1], lambda _: f16.labels, [1.0])
    assert numbers(whole).keys() == numbers(parts).keys()
    for name, value in numbers(whole).items():
        np.testing.assert_allclose(numbers(parts)[name], value, rtol=1e-12)


def test_one_view_is_in_memory_at_a_time(f16: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    store, seen, alive = f16.store, [], []
    decode = type(store.encoding).decode

    def watched(self: Any, stored: Any) -> Any:
        gc.collect()
        alive.append(sum(one() is not None for one in seen))
        answers = decode(self, stored)
        seen.append(weakref.ref(answers["logits"]))
        return answers

    monkeypatch.setattr(type(store.encoding), "decode", watched)
    count_views(store, [0, 1, 2], lambda _: f16.labels, [1.0])
    assert len(seen) == 3
    assert max(alive) <= 1  # the one that the loop's variable still holds


def test_labels_that_contradict_the_summary_are_refused(f16: MadeUp) -> None:
    with pytest.raises(InputError, match=r"error on view 0 is 0\.\d+ by the labels, 0\.\d+ in summary\.json"):
        count_views(f16.store, [0, 1], lambda _: (f16.labels + 1) % CLASSES, [1.0])


def test_without_labels_what_is_missing_is_said(f16: MadeUp) -> None:
    report = statistics(f16, [0], None, "data/made-up.h5 is not there")
    assert "ka" not in report and "class_error" not in report and "confidence" in report
    assert report["left_out"] == [
        "2 of the views; `--views 0:3` reads all",
        "errors per class and KA's share, which need labels: data/made-up.h5 is not there",
    ]


def test_views_are_chosen_evenly(f16: MadeUp) -> None:
    store = f16.store
    assert choose_views(None, store) == [0, 1, 2] and choose_views("1:3", store) == [1, 2]
    store.present = list(range(10, 172))
    assert choose_views(None, store) == [10, 33, 56, 79, 102, 125, 148, 171]
    store.present = [5]
    assert choose_views(None, store) == [5]
    store.present = []
    assert choose_views(None, store) == []
    assert choose_views("2", store) == [2] and choose_views("2,0:1", store) == [0, 2], "as fetch-views takes them"
    for bad in ("3", "2:2", "0:4", "-1:2", "a:b", "0:2:1"):
        with pytest.raises(InputError, match=f"^--views is '{bad}'; (expected a view, a range|the store has 3 views)"):
            choose_views(bad, store)


def student(folder: Path, classes: int = CLASSES) -> Normalised:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        model = Normalised(build_model("convnet4", classes, in_channels=1), Preprocessing((0.3,), (0.4,)))
        model(torch.rand(64, 1, 8, 8))  # moves the batch norms' statistics
        torch.nn.init.normal_(next(p for p in reversed(list(model.parameters())) if p.ndim == 2))
    card = {"model": "convnet4", "num_classes": classes, "in_channels": 1}
    save_checkpoint(folder, model, card)
    return model.eval()


DTD = {"tau_0": 3.0, "tau_min": 2.9, "tau_max": 3.2, "flsw": {"beta": 2.0, "gamma": 1.5}, "cwsm": {"beta": 0.3}}


def settings(**changes: Any) -> Distill:
    given = {"epochs": 1, "teacher": "large", "student": "convnet4", "method": "ce", "batch_size": 7, "dtd": DTD}
    return Distill.model_validate(given | changes)


def naive_temperatures(made: MadeUp, model: Normalised, views: list[int]) -> dict[str, list[tuple[float, float]]]:
    """The paper's equations, one sample after the other: (wanted, clamped) by method."""
    found: dict[str, list[tuple[float, float]]] = {"dtd-flsw": [], "dtd-cwsm": []}
    images = torch.from_numpy(read(made)[0].images).permute(0, 3, 1, 2)
    for view in views:
        plan = made.store.plan
        teacher = made.store.logits(view).astype(np.float64).tolist()
        with torch.no_grad():
            pixels = plan.render(images, torch.from_numpy(plan.parameters(view)))
            given = model(pixels).double().tolist()
        order = sample_order(0, view, SAMPLES).tolist()
        for start in range(0, SAMPLES, 7):
            batch = order[start : start + 7]
            weights: dict[str, list[float]] = {"dtd-flsw": [], "dtd-cwsm": []}
            for i in batch:
                dot = sum(a * b for a, b in zip(given[i], teacher[i], strict=True))
                norms = [math.sqrt(sum(a * a for a in row)) for row in (given[i], teacher[i])]
                weights["dtd-flsw"].append(max(0.0, 1 - dot / (norms[0] * norms[1])) ** 1.5)
                weights["dtd-cwsm"].append(1 / max(naive_softmax(given[i], 1.0)))
            for (method, values), beta in zip(weights.items(), (2.0, 0.3), strict=True):
                for w in values:
                    wanted = 3.0 + beta * (sum(values) / len(values) - w)
                    found[method].append((wanted, min(max(wanted, 2.9), 3.2)))
    return found


def test_temperatures(made: MadeUp, tmp_path: Path) -> None:
    model = student(tmp_path / "student")
    split, _ = read(made)
    report = dtd_temperatures(
        made.store, [0, 2], tmp_path / "student", split, settings(), torch.device("cpu")
    ).as_json()
    assert report["batch_size"] == 7 and report["rows"] == 2 * SAMPLES
    every = naive_temperatures(made, model, [0, 2])
    low, high = (pick(tau for rows in every.values() for _, tau in rows) for pick in (min, max))
    assert (report["edges"][0], report["edges"][-1]) == pytest.approx((low, high))
    for method, rows in every.items():
        found, taus = report["methods"][method], [tau for _, tau in rows]
        assert found["mean"] == pytest.approx(sum(taus) / len(taus), abs=1e-5)
        assert (found["min"], found["max"]) == pytest.approx((min(taus), max(taus)), abs=1e-5)
        floor, ceiling = (sum(test(w) for w, _ in rows) for test in (lambda w: w < 2.9, lambda w: w > 3.2))
        assert found["at_floor"] == pytest.approx(floor / len(rows))
        assert found["at_ceiling"] == pytest.approx(ceiling / len(rows))
        assert found["clamped"] == pytest.approx((floor + ceiling) / len(rows))
        assert sum(found["histogram"]) == 2 * SAMPLES
    assert all(report["methods"]["dtd-flsw"][key] > 0 for key in ("at_floor", "at_ceiling")), "the clamp must be tried"


def test_a_student_of_other_classes_is_refused(f16: MadeUp, tmp_path: Path) -> None:
    student(tmp_path / "student", CLASSES + 1)
    with pytest.raises(InputError, match="num_classes is 7, expected 6; name a student of this data set"):
        dtd_temperatures(f16.store, [0], tmp_path / "student", read(f16)[0], settings(), torch.device("cpu"))


def test_facts_of_a_finished_store(made: MadeUp) -> None:
    facts, store = read_facts(made.folder)
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    assert store is not None and facts.finished
    assert (facts.views, facts.samples, facts.classes) == (VIEWS, SAMPLES, CLASSES)
    assert facts.chunks == ChunkCount(9, 9) and facts.views_there == [0, 1, 2]
    assert facts.bytes == size
    assert facts.bytes_per_row.on_disk == size / (VIEWS * SAMPLES)
    assert facts.bytes_per_row.stated == store.attributes.measured.bytes_per_row
    assert facts.attributes == store.attributes


@pytest.mark.parametrize("chunks", [0, 4, 9])
def test_facts_of_an_unfinished_store(chunks: int, tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "i16", finish=False, chunks=chunks)
    facts, store = read_facts(made.folder)
    assert store is None and not facts.finished
    assert facts.chunks == ChunkCount(chunks, 9) and facts.views_there == list(range(chunks // 3))
    rows = {0: 0, 4: 22 + 8, 9: 66}[chunks]
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    assert facts.bytes_per_row.on_disk == (size / rows if rows else None)
    assert "UNFINISHED" in printed(StoreInspection(facts), 60)


def test_a_chunk_without_its_commit_record_is_not_there(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16", finish=False)
    (made.folder / "logits/c/1/2/0").unlink()
    assert read_facts(made.folder)[0].chunks == ChunkCount(8, 9)


def test_a_store_that_was_fetched_in_part(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16")
    (made.folder / "partial.json").write_text("{}")
    for path in made.folder.glob("*/c/1/*/*"):
        path.unlink()
    facts, store = read_facts(made.folder)
    assert store is not None and choose_views(None, store) == [0, 2]
    assert facts.chunks.there < 9 and facts.views_there == [0, 2]
    text = printed(StoreInspection(facts, logit_statistics(store, [0, 2], read(made), 4.0, "")), 60)
    assert "fetched in part: views 0, 2 of 3" in " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither manifest.json nor zarr.json, so there is no logit store; expected one"),
        (
            '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
            "not a logit store: zarr.json has no attributes `prepkd`",
        ),
        (
            '{"zarr_format": 3, "node_type": "group", "attributes": {"prepkd": {"format": 9}}}',
            f"format is 9, this version of prepkd reads {FORMAT}; update prepkd",
        ),
    ],
)
def test_what_is_no_store(content: str | None, message: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_facts(tmp_path)
    assert str(caught.value) == f"{tmp_path}: {message}"


def whole_inspection(made: MadeUp, folder: Path) -> StoreInspection:
    facts, store = read_facts(made.folder)
    assert store is not None
    student(folder / "student")
    split, info = read(made)
    logits = logit_statistics(store, [0, 1, 2], (split, info), 4.0, "")
    dtd = dtd_temperatures(store, [0, 1, 2], folder / "student", split, settings(), torch.device("cpu"))
    return StoreInspection(facts, logits, dtd)


def with_attributes(facts: StoreFacts, **changes: Any) -> StoreFacts:
    """Facts with other attributes; None leaves one out."""
    described = facts.attributes.model_dump() | changes
    kept = {key: value for key, value in described.items() if value is not None}
    return replace(facts, attributes=Attributes.model_validate(kept))


def printed(inspection: StoreInspection, columns: int) -> str:
    file = io.StringIO()
    TextConsole(file=file, width=columns).print(tables(inspection))
    return file.getvalue()


def test_names_are_printed_as_they_are(f16: MadeUp, tmp_path: Path) -> None:
    """Markup, emoji codes, formulas and what a terminal obeys, in the names of classes and of the teacher."""
    hostile = (
        "[/red]",
        "[bold]x",
        ":cat:",
        "$x_{$",
        "\x1b[2Jx",
        "a\nb",
        "\x9b2J",
        "\u202etxt",
        "bée",
        "\ud800",
        "猫",
        "🐱",
        "பூனை",
    )
    facts, store = read_facts(f16.folder)
    split, info = read(f16)
    assert store is not None
    for first in range(len(hostile)):
        names = (hostile * 2)[first : first + CLASSES]
        # Not validated: a store with such a teacher is refused, and what is printed must not depend on that.
        teacher = facts.attributes.teacher.model_copy(update={"name": names[0], "model": names[1]})
        made = replace(facts, attributes=facts.attributes.model_copy(update={"teacher": teacher}))
        logits = logit_statistics(store, [0, 1, 2], (split, replace(info, class_names=names)), 4.0, "")
        inspection = StoreInspection(made, logits)
        text = printed(inspection, 100)
        assert all(one.isprintable() for line in text.split("\n") for one in line)
        worst = [name.name for name in logits.class_error[:5]]  # type: ignore[index]
        for name in (*names[:2], *worst):
            assert printable(name) in text, name
        draw_picture(inspection, f"{names[0]}: a title", tmp_path / "x.png")


@pytest.mark.parametrize("columns", [60, 100])
def test_tables_fit_the_terminal_and_hold_the_figures(made: MadeUp, columns: int, tmp_path: Path) -> None:
    inspection = whole_inspection(made, tmp_path)
    unverified = ["that the logits are a teacher's", "their arithmetic"]
    facts = with_attributes(inspection.facts, unverified=unverified)
    inspection = replace(inspection, facts=facts)
    text, report = printed(inspection, columns), inspection.as_json()
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text, "nothing is cut off"
    words = " ".join(text.split())
    ka, facts = report["ka"], report["facts"]
    for part in (
        f"{VIEWS} views x {SAMPLES} samples x {CLASSES} classes",
        "finished: 9 of 9 chunks",
        f"{facts['bytes']:,} bytes in {facts['files']} files",
        f"{ka['rows_wrong']} of {ka['rows']}",
        f"{ka['samples_wrong_in_all_views']} of {ka['samples']}",
        "UNVERIFIED that the logits are a teacher's their arithmetic",
        f"{report['dtd']['methods']['dtd-cwsm']['mean']:.3f}",
        f"measured on {SAMPLES} rows: {facts['attributes']['measured']['argmax_flips']} argmax flips",
        "mean is over batches of 7",
        *(f"{report['facts']['attributes']['measured']['kl_max'][tau]:.2e}" for tau in ("1", "2", "4", "8")),
        *(f"{values['mean']:.3f} at tau {tau}" for tau, values in report["entropy"].items() if tau != "edges"),
    ):
        assert part in words, part
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def dark(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L")) < 200


def test_the_picture_has_a_panel_a_subject(f16: MadeUp, tmp_path: Path) -> None:
    inspection = whole_inspection(f16, tmp_path)
    for name in ("a", "b"):
        draw_picture(inspection, "made-up", tmp_path / "new" / f"{name}.png")
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
    shown = dark(tmp_path / "new/a.png")
    height, width = shown.shape
    thirds = [shown[round(height * i / 3) : round(height * (i + 1) / 3)] for i in range(3)]
    assert all(half.mean() > 0.01 for row in thirds for half in (row[:, : width // 2], row[:, width // 2 :]))
    # Without labels and student three panels are left: the last place stays empty.
    assert inspection.logits is not None
    few = replace(inspection, logits=replace(inspection.logits, class_error=None, ka=None), dtd=None)
    draw_picture(few, "made-up", tmp_path / "few.png")
    shown = dark(tmp_path / "few.png")
    corner = shown[round(0.55 * len(shown)) :, round(0.55 * width) :]
    assert not corner.any() and shown.any()


def test_rows_are_checked_as_they_are_read(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16")
    path = made.folder / "logits/c/1/2/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, store = read_facts(made.folder)
    assert store is not None
    count_views(store, [0, 2], None, [1.0])
    with pytest.raises(InputError, match=r"logits/c/1/2/0: sha256"):
        count_views(store, [1], None, [1.0])


def test_an_imported_store_says_what_is_not_known(f16: MadeUp) -> None:
    facts, _ = read_facts(f16.folder)
    source = {"file": "logits.npy", "sha256": "a" * 64}
    nobody = {"name": "theirs", "model": "imported", "weights_fingerprint": None, "preprocessing": None}
    facts = with_attributes(
        facts,
        teacher=nobody | {"source": source},
        precision={"arithmetic": "unknown", "batch_size": None, "device": "unknown"},
        unverified=["which teacher gave them"],
        measured=None,
    )
    words = " ".join(printed(StoreInspection(facts), 60).split())
    for part in (
        "weights not stated",
        "precision unknown format",
        "imported from logits.npy, sha256 aaaaaaaaaaaa",
        "UNVERIFIED which teacher gave them",
    ):
        assert part in words, words
    assert "None" not in words and "KL" not in words


def test_a_store_at_a_url(made: MadeUp) -> None:
    import fsspec

    url = f"memory://{made.store.encoding.name}/made-up.zarr"
    fsspec.filesystem("memory").put(f"{made.folder}/", url, recursive=True)
    there, store = read_facts(url)
    here, _ = read_facts(made.folder)
    assert store is not None
    assert there == replace(here, store=url)
    assert logit_statistics(store, [0, 1], read(made), 4.0, "") == logit_statistics(
        made.store, [0, 1], read(made), 4.0, ""
    )
