"""Which discrepancies are rounding: the limits of each arithmetic, other maxima, values that are not finite."""

import json
import re
from pathlib import Path

import pytest
import torch
from commands import ROOT
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors, words_of
from prepkd.verification.discrepancy import TOLERANCES, Discrepancy, Tolerance, live_reference, measure_discrepancy
from prepkd.verification.live_teacher import verify_rows
from prepkd.verification.sampling import draw_pairs
from torch import Tensor
from verified_stores import ENCODINGS, changed_section, opened, rewritten, verified


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
    both[2], infinite[2] = torch.inf, torch.inf  # equal, and still wrong
    assert not compared(store, stored | {"row_max": infinite}, both, labels).within


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])  # NaN means "missing": no writer finishes such a store
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_value_that_is_not_finite_fails_whatever_else_is_wrong(
    finished: Path, tmp_path: Path, encoding: str, value: float
) -> None:
    """One infinite maximum would make the tolerance infinite, and let every other maximum be off by 1,000."""
    store, teacher, samples = opened(finished, encoding)

    def spoiled(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        row_max = stored["row_max"] + 1000
        row_max[::7] = value
        return stored | {"row_max": row_max}

    wrong = rewritten(store, tmp_path / "t.zarr", spoiled)
    report = verify_rows(wrong, teacher, samples, count=200, seed=3).as_json()
    with pytest.raises(InputError, match="row_max"):  # other readers of the same store still refuse these rows
        wrong.stored(0)
    assert report["verdict"] == "FAIL" and "rows hold values that are not finite, stored or live" in report["why"]
    assert report["teacher"]["not_finite"] > 10
    allowed = report["teacher"]["allowed"]["excess"]
    assert 0 < allowed < 1
    json.dumps(report, allow_nan=False)


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
    """Two classes a rounding apart swap: the encoding's error for the live maximum is no bound for the other class."""
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
    words = words_of(store.encoding, store.plan, 0, slice(0, 200))
    assert compared(store, store.encoding.encode(raw, labels, words), live, labels).within


def test_the_tolerances_are_those_of_the_docs() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\S+) \| t = (\S+) \| (\S+) %", (ROOT / "docs/how-to/verify.md").read_text(), re.M
    )
    said = {name: Tolerance(float(dz), float(kl), float(flips) / 100) for name, dz, kl, flips in rows}
    assert said == {name: TOLERANCES[name] for name in ("ieee", "tf32", "bf16")}
    assert TOLERANCES["unknown"] == TOLERANCES["bf16"]
