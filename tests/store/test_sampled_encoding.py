"""sampled: each class is kept with the probability stated by its weight, so that the expected target is that of the full row."""

import math
from pathlib import Path
from typing import Any

import elsewhere_files as files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.data.samples.labels import is_wrong, mixture
from prepkd.distillation.view_dataset import ViewDataset
from prepkd.errors import InputError
from prepkd.runtime.streams import raw_words
from prepkd.store.encodings import words_of
from prepkd.store.encodings.sampled import Sampled
from prepkd.teacher.cached import CachedTeacher
from prepkd.teacher.online import OnlineTeacher
from prepkd.views import PairedPlan, ViewPlan
from prepkd.views.order import random
from store_checks import refused
from torch import Tensor

GRID = 2**12
SWEEP = torch.arange(GRID) * (2**40 // GRID) + 2**27  # evenly spaced starts of the draw
CPU = torch.device("cpu")


def swept(encoding: Sampled, row: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Encode one row under every start of the draw, and decode it."""
    return encoding.decode(encoding.encode(row.expand(GRID, -1), label.expand(GRID), SWEEP))


def masses(answers: dict[str, Tensor], tau: float) -> Tensor:
    """Return w_k exp(o_k / tau) of each row and class, float64."""
    return torch.exp(answers["logits"].double() / tau + answers["log_weights"].double())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-30, 0, width=32), min_size=7, max_size=7),
    st.integers(0, 6),
    st.integers(3, 6),
    st.sampled_from([0.5, 1.0, 4.0, 20.0]),
)
def test_the_expected_target_is_the_softmax_at_the_temperature_of_the_draw(
    row: list[float], label: int, n: int, tau: float
) -> None:
    """The mean over all starts of the draw has no sampling error: only the grid's resolution and float16's rounding remain."""
    encoding = Sampled(7, n=n, tau=tau)
    answers = swept(encoding, torch.tensor([row]), torch.tensor([label]))
    found = masses(answers, tau)
    total = torch.exp(torch.tensor(row).sub(max(row)).double() / tau).sum()
    # In every draw the kept classes' weighted mass is the full row's, so scaling it to 1 adds no bias.
    assert torch.allclose(found.sum(1), total, rtol=16 / tau * 2**-11 + 1e-4)
    expected = torch.softmax(torch.tensor(row).double() / tau, dim=-1)
    targets = torch.softmax(answers["logits"].double() / tau + answers["log_weights"].double(), dim=-1)
    assert (targets.mean(0) - expected).abs().max() < 16 / tau * 2**-11 + 2 / GRID
    # A weight is the inverse of the share of starts that keep the class.
    kept = answers["log_weights"].isfinite()
    shares = kept.double().mean(0)
    weights = torch.where(kept, answers["log_weights"].double().exp(), torch.nan).nanmean(0)
    seen = shares > 50 / GRID
    assert torch.allclose(1 / shares[seen], weights[seen], rtol=0.05)


def test_number_by_number() -> None:
    """tau 1, masses 1 (maximum, fixed), 1/2 (label, fixed), 1/2, 1/8, 1/8; two draws among three classes."""
    row = torch.log(torch.tensor([[0.5, 1.0, 0.125, 0.5, 0.125]]))
    encoding = Sampled(5, n=4, tau=1.0)
    words = torch.tensor([0, 2**38, 2**39, 2**40 - 1])
    stored = encoding.encode(row.expand(4, -1), torch.zeros(4, dtype=torch.long), words)
    # Two of the classes with 1/2, 1/8, 1/8 are drawn: the first is certain, the others have 1/2 each for the second place.
    assert stored["threshold"].tolist() == pytest.approx([math.log(0.25)] * 4)
    assert stored["fixed"].tolist() == [2] * 4
    assert stored["ids"].tolist() == [[0, 1, 3, 4], [0, 1, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    weights = encoding.decode(stored)["log_weights"].exp()
    assert (
        weights.tolist()
        == [pytest.approx([1, 1, 0, 1, 2], rel=1e-3)] * 2 + [pytest.approx([1, 1, 2, 1, 0], rel=1e-3)] * 2
    )
    assert stored["lse"].tolist() == pytest.approx([math.log(2.25)] * 4)
    assert stored["tail"].tolist() == pytest.approx([math.log(0.125)] * 4)


def test_it_is_a_function_of_seed_view_and_sample() -> None:
    plan = ViewPlan([{"crop": {"padding": 1}}, "flip"], 5, 7, 40)
    encoding = Sampled(9, n=4)
    whole = words_of(encoding, plan, 3)
    assert whole is not None and len(set(whole.tolist())) == 40
    assert torch.equal(words_of(encoding, plan, 3, slice(11, 30)), whole[11:30])
    samples, views = np.array([39, 3, 3, 0]), np.array([3, 3, 1, 3])
    found = words_of(encoding, plan, views, samples)
    assert found.tolist() == [whole[39], whole[3], words_of(encoding, plan, 1)[3], whole[0]]
    others = ViewPlan(plan.recipe, 5, 8, 40), plan
    assert not any(torch.equal(words_of(encoding, one, view), whole) for one, view in zip(others, (3, 2), strict=True))
    assert whole[0].item() == int(raw_words(7, (0x0C << 56) + 3, 0, 1)[0]) >> 24, "golden: Philox keyed by (seed, view)"
    raw = 3 * torch.randn(40, 9, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 9
    once = encoding.encode(raw, labels, whole)
    for size in (1, 7, 40):
        parts = [
            encoding.encode(raw[i : i + size], labels[i : i + size], whole[i : i + size]) for i in range(0, 40, size)
        ]
        assert all(torch.equal(torch.cat([part[name] for part in parts]), array) for name, array in once.items())


def test_strong_views_have_words_of_their_own_however_they_are_numbered() -> None:
    plan = PairedPlan(["flip"], 2, 7, 12, [{"crop": {"padding": 2}}])
    encoding = Sampled(9, n=4)
    words = [words_of(encoding, plan, view) for view in range(4)]
    assert torch.equal(words[1], words_of(encoding, plan.weak, 1)) and torch.equal(
        words[3], words_of(encoding, plan.strong, 1)
    )
    assert len({tuple(one.tolist()) for one in words}) == 4


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0, 3000.0])
@pytest.mark.parametrize(("classes", "n"), [(4, 3), (300, 3), (300, 40), (300, 299)])
def test_the_maximum_and_the_label_are_always_kept(classes: int, n: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(classes + n)
    raw = scale * torch.randn(100, classes, generator=generator)
    labels = torch.randint(classes, (100,), generator=generator)
    encoding = Sampled(classes, n=n)
    stored = encoding.encode(raw, labels, torch.randint(2**40, (100,), generator=generator))
    answers = encoding.decode(stored)
    assert torch.equal(is_wrong(answers["logits"], labels), is_wrong(raw, labels))
    assert torch.equal(raw.gather(1, answers["logits"].argmax(1, keepdim=True))[:, 0], raw.amax(1))
    for array, field in encoding.fields.items():
        assert field.problem(stored[array].numpy().astype(field.dtype)) == ""
    weights = answers["log_weights"]
    assert (weights.isfinite().sum(1) == n).all() and (weights[weights.isfinite()] >= 0).all()
    assert (weights.gather(1, labels.unsqueeze(1)) == 0).all(), "certain"
    assert torch.softmax(answers["logits"] / 4 + weights, dim=-1).isfinite().all()


def test_both_labels_of_a_mixed_view_are_kept() -> None:
    generator = torch.Generator().manual_seed(2)
    raw = torch.randn(200, 9, generator=generator)
    labels = mixture(
        *(torch.randint(9, (200,), generator=generator) for _ in range(2)), torch.rand(200, generator=generator), 9
    )
    words = torch.randint(2**40, (200,), generator=generator)
    answers = Sampled(9, n=5).decode(Sampled(9, n=5).encode(raw, labels, words))
    assert (answers["log_weights"][labels > 0] == 0).all()
    text = refused(InputError, Sampled(9, n=3).encode, raw, labels, words)
    assert text == "cache.sampled.n is 3; expected at least 4: views mix 2 labels, which are kept, as is the maximum"


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"n": 2}, "cache.sampled.n is 2; expected 3 to 4, below the number of classes"),
        ({"n": 5}, "cache.sampled.n is 5; expected 3 to 4, below the number of classes"),
        ({"n": 3.0}, "cache.sampled.n is 3.0; expected 3 to 4, below the number of classes"),
        ({"n": 3, "tau": math.inf}, "cache.sampled.tau is inf; expected a number above 0, at most 1000"),
        ({"n": 3, "tau": "4"}, "cache.sampled.tau is '4'; expected a number above 0, at most 1000"),
    ],
)
def test_settings_outside_their_range_are_refused(given_: dict[str, Any], message: str) -> None:
    assert refused(InputError, Sampled, 5, **given_) == message


def test_a_draw_without_words_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="expected a random word per row"):
        Sampled(5, n=3).encode(torch.zeros(1, 5), torch.zeros(1, dtype=torch.long))


def test_a_store_answers_as_the_live_teacher_and_is_no_view_dataset(tmp_path: Path) -> None:
    data = files.digits(tmp_path / "digits.h5")
    dataset = files.dataset_of(data, [{"crop": {"padding": 1}}], 3)
    teacher = files.teacher_of(dataset)
    store = files.write_store(tmp_path / "t.zarr", data, dataset, teacher=teacher, encoding="sampled")
    online = OnlineTeacher(teacher, dataset, store.encoding, batch_size=8, precision="ieee")
    streamed = CachedTeacher(store, CPU, resident=False, resident_gib=0)
    resident = CachedTeacher(store, CPU, resident=True, resident_gib=1)
    assert streamed.names == online.names == ("logits", "row_max", "log_weights")
    mixed = random(3, 0, store.views, store.samples)
    assert len(set(mixed.tolist())) == 3
    for cached, views in ((streamed, 0), (streamed, 2), (resident, 1), (resident, mixed)):
        found, live = cached(views), online(views)
        assert found.keys() == live.keys() and all(torch.equal(found[name], live[name]) for name in found)
    text = refused(InputError, ViewDataset, data, store.url)
    assert "encoding sampled keeps a draw of the classes with their weights" in text
