"""A store against its live teacher: a correct one passes in every encoding, and changed answers fail."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.store.encodings import words_of
from prepkd.verification.controls import CONTROLS
from prepkd.verification.sampling import draw_pairs
from torch import Tensor
from verified_stores import (
    ENCODINGS,
    Change,
    one_view_rolled,
    opened,
    rewritten,
    same,
    shifted_maxima,
    verified,
    verify,
)


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


def raised_tail(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"tail": torch.minimum(stored["tail"] + 0.01, torch.tensor(-1e-3))}


def raised_lse(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"lse": stored["lse"] + 0.01}


def raised_threshold(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"threshold": stored["threshold"] + 0.01}


def other_draws(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the right answers, with classes drawn by another view's random words."""
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
    # The store seems to be written with other labels.
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


def widened_offsets(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """An offset of -60,000 has a rounding error of 16; a damaged store must not gain that tolerance for its other rows."""
    logits = stored["logits"].clone()
    logits[::5, 0] = torch.where(logits[::5, 0] < 0, -60_000, logits[::5, 0].double()).to(logits.dtype)
    return stored | {"logits": logits, "row_max": stored["row_max"] + 10}


def widened_steps(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"step": stored["step"] * 2}


def widened_maxima(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tolerance is a share of the largest logit, so a store with larger maxima would widen its own tolerance."""
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
