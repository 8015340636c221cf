"""The encoding keeps maxima and ties exactly, and the rest to float16's precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.errors import InputError
from prepkd.store.encodings.f16 import F16, MAX_GAP, MIN_GAP
from store_checks import reference_encoding, refused
from torch import Tensor

# Sign and exponent of the row's maximum; 2^36 has an ulp of 2^13, and seven of these fit float16.
near = st.one_of(
    st.floats(-(2.0**36), 2.0**36, width=32),
    st.floats(-(2.0**-126), 2.0**-126, width=32),  # subnormals and zero
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**36, 2.0**-149, 65504.0, 0.5 * 2.0**-24]),
)
plain = st.lists(st.floats(-32752, 32752, width=32), min_size=1, max_size=12)


def encode(logits: Tensor) -> tuple[Tensor, Tensor]:
    stored = F16(logits.shape[1]).encode(logits, torch.zeros(len(logits), dtype=torch.long))
    return stored["logits"], stored["row_max"]


def decode(offsets: Tensor, row_max: Tensor) -> Tensor:
    found = F16(offsets.shape[1]).decode({"logits": offsets, "row_max": row_max})
    return found["logits"].float() + found["row_max"].unsqueeze(-1)


@st.composite
def adversarial(draw: st.DrawFn) -> list[float]:
    """Draw a row whose entries lie 0 to 7 ulps of float32 below its largest."""
    top = np.float32(draw(near))
    row = []
    for steps in [0, *draw(st.lists(st.integers(0, 7), min_size=1, max_size=8))]:
        value = top
        for _ in range(steps):
            value = np.nextafter(value, np.float32(-np.inf))
        row.append(float(value))
    return draw(st.permutations(row))


def winners(row: Tensor) -> list[bool]:
    return (row == row.max()).tolist()


@settings(max_examples=300, deadline=None)
@given(st.one_of(adversarial(), plain))
def test_winners_ties_and_order_are_kept_exactly(row: list[float]) -> None:
    logits = torch.tensor([row])
    offsets, row_max = encode(logits)
    assert offsets.dtype == torch.float16
    assert row_max.dtype == torch.float32
    assert row_max.item() == max(row)
    assert (offsets[0] == 0).tolist() == winners(logits[0])
    assert torch.isfinite(offsets).all()
    ranked = offsets[0][logits[0].argsort()]
    assert (ranked.diff() >= 0).all()  # the order of entries is kept


@settings(max_examples=200, deadline=None)
@given(st.one_of(adversarial(), plain))
def test_encoding_equals_the_reference_number_by_number(row: list[float]) -> None:
    offsets, row_max = encode(torch.tensor([row, row]))
    expected = reference_encoding(np.array([row, row], np.float32))
    assert np.array_equal(offsets.numpy(), expected[0])
    assert np.array_equal(row_max.numpy(), expected[1])


def test_what_float16_alone_would_lose() -> None:
    logits = torch.tensor([[10.0, 10.0 + 2.0**-20, 3.0]])
    assert logits.half().argmax() == 0, "the example is not adversarial"
    offsets, _ = encode(logits)
    assert offsets[0].tolist() == [-MIN_GAP * 16, 0.0, -7.0]
    tiny = torch.tensor([[1.0 - 2.0**-25, 1.0 - 2.0**-24, 1.0]])  # the first entry ties in float32
    assert encode(tiny)[0][0].tolist() == [0.0, -MIN_GAP, 0.0]
    assert encode(torch.tensor([[0.0, 2.0**-149]]))[0][0].tolist() == [-MIN_GAP, 0.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=12))
def test_bf16_ties_stay_ties(row: list[float]) -> None:
    logits = torch.tensor([[*row, row[0] * (1 + 2.0**-12)]]).bfloat16()
    offsets, row_max = encode(logits)
    assert (offsets[0] == 0).tolist() == winners(logits[0])
    assert all(map(torch.equal, (offsets, row_max), encode(logits.float())))


@settings(max_examples=200, deadline=None)
@given(st.one_of(adversarial(), plain))
def test_round_trip_error_is_float16s(row: list[float]) -> None:
    logits = torch.tensor([row])
    found = decode(*encode(logits)).double()
    gap = (logits.double() - max(row)).abs()
    # Half an ulp of float16 of the gap (2^-11), or at most one subnormal; half an ulp of float32 of difference and sum.
    bound = gap * (2.0**-11 + 2.0**-23) + MIN_GAP + found.abs() * 2.0**-24
    assert ((found - logits.double()).abs() <= bound).all()


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize(("classes", "scale"), [(10, 3.0), (100, 3.0), (1000, 5.0)])
def test_divergence_that_the_encoding_adds(tau: float, classes: int, scale: float) -> None:
    logits = scale * torch.randn(2000, classes, generator=torch.Generator().manual_seed(0))
    offsets, _ = encode(logits)
    p, q = (torch.log_softmax(z.double() / tau, 1) for z in (logits, offsets))
    divergence = (p.exp() * (p - q)).sum(1)
    # Each logit moves by at most 2^-11 of the row's range R; Hoeffding's lemma: KL <= (2^-11 R / tau)^2 / 8.
    spread = (logits.amax(1) - logits.amin(1)).double()
    assert (divergence <= (2.0**-11 * spread / tau) ** 2 / 8 + 1e-15).all()
    assert 0 < divergence.mean() < 2e-7  # measured: 7e-9 to 1.8e-7
    assert torch.equal(offsets.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ([0.0, float("nan")], "a value that is not finite"),
        ([0.0, float("inf")], "a value that is not finite"),
        ([0.0, -float("inf")], "a value that is not finite"),
        ([float("nan")] * 2, "a value that is not finite"),
        ([1.0, 1.0 - 65536.0], "a range of 65536 in one row"),
        ([3e38, -3e38], "a range of inf in one row"),
    ],
)
def test_refuses_what_it_cannot_hold(row: list[float], found: str) -> None:
    text = refused(InputError, encode, torch.tensor([[1.0, 2.0], row]))
    assert text == (
        f"teacher logits: expected finite values with a range up to 65504, found {found}; "
        "look at the teacher's weights and preprocessing"
    )


def test_holds_the_largest_range() -> None:
    offsets, row_max = encode(torch.tensor([[MAX_GAP, 0.0], [0.0, -MAX_GAP]]))
    assert offsets.tolist() == [[0.0, -65504.0], [0.0, -65504.0]]
    assert row_max.tolist() == [65504.0, 0.0]
