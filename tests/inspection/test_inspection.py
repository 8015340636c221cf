"""The statistics of `prepkd inspect` against loops in float64, for every encoding."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from inspected import NAMES, naive_softmax, read, statistics
from made_up_store import CLASSES, SAMPLES, VIEWS, MadeUp
from prepkd.errors import InputError
from prepkd.inspection.counts import Counts, count_view, count_views
from prepkd.inspection.logit_statistics import choose_views, logit_statistics
from prepkd.inspection.softness import BINS, confidence_and_entropy


def naive_wrong(made: MadeUp, views: list[int]) -> list[list[bool]]:
    """Per view and sample, whether the label's raw logit is below the maximum; encodings may not change that."""
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
    # The largest entropy lies on the edge of the last bin and counts in it.
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
    assert max(alive) <= 1  # the loop's variable still holds the last view


def test_labels_that_contradict_the_summary_are_refused(f16: MadeUp) -> None:
    with pytest.raises(InputError, match=r"error on view 0 is 0\.\d+ by the labels, 0\.\d+ in summary\.json"):
        count_views(f16.store, [0, 1], lambda _: (f16.labels + 1) % CLASSES, [1.0])


def test_without_labels_what_is_missing_is_said(f16: MadeUp) -> None:
    report = statistics(f16, [0], None, "data/made-up.h5 is not there")
    assert "ka" not in report and "class_error" not in report and "confidence" in report
    assert report["left_out"] == [
        "2 of the views; `--select 0:3` reads all",
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
        with pytest.raises(InputError, match=f"^--select is '{bad}'; (expected a view, a range|the store has 3 views)"):
            choose_views(bad, store)
