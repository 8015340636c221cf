"""u8, i16, topk and sampled beside f16: exact properties, error bounds, and descriptions."""

import math
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import store_writing
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.data.samples.labels import is_wrong, mixture
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.encodings import ENCODINGS, LogitEncoding, decode_in_blocks, encode_in_blocks, make_encoding, words_of
from prepkd.store.encodings.f16 import F16, half_problem
from prepkd.store.encodings.i16 import I16
from prepkd.store.encodings.measure import measure_encoding
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.topk import TopK
from prepkd.store.encodings.u8 import U8
from prepkd.store.layout import Layout
from prepkd.teacher.caching import logit_encoding
from prepkd.teacher.settings import Cache
from pydantic import ValidationError
from store_checks import refused
from store_writing import LABELS, PLAN, contents, raw, write
from torch import Tensor

ALL: dict[str, LogitEncoding] = {
    "f16": F16(5),
    "u8": U8(5),
    "i16": I16(5),
    "topk": TopK(5, k=2),
    "sampled": Sampled(5, n=3),
}
DROPPING = {"topk": 2, "sampled": 3}  # the number of classes they keep


@st.composite
def rows(draw: st.DrawFn) -> Tensor:
    """Draw one row of 5 logits: ties, tiny gaps and wide ranges."""
    near = st.sampled_from([0.0, 0.0, 1e-30, 2.0**-25, 1e-3, 0.015625, 0.03125, 1.0])
    gap = st.one_of(near, st.floats(0, 40, width=32))
    top = draw(st.floats(-100, 100, width=32))
    row = [np.float32(top), *(np.float32(top) - np.float32(draw(gap)) for _ in range(4))]
    return torch.tensor([draw(st.permutations(row))])


def words(count: int) -> Tensor:
    """Return random words for an encoding that draws."""
    return torch.randint(2**40, (count,), generator=torch.Generator().manual_seed(5))


def round_trip(encoding: LogitEncoding, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    stored = encoding.encode(logits, labels, words(len(logits)))
    answers = encoding.decode(stored)
    return answers["logits"], answers["row_max"], stored


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=200, deadline=None)
@given(rows(), st.integers(0, 4))
def test_maxima_and_the_labels_rightness_are_kept_exactly(name: str, row: Tensor, label: int) -> None:
    """This holds even if more classes tie than topk keeps: the label is always kept."""
    offsets, row_max, _ = round_trip(ALL[name], row, torch.tensor([label]))
    assert row_max.dtype == torch.float32 and torch.equal(row_max, row.amax(1))
    assert (offsets <= 0).all()
    assert (offsets[0, label] == 0) == (row[0, label] == row.max()), "who is right must not change"
    assert row[0, offsets[0].argmax()] == row.max()
    if name not in DROPPING:
        assert torch.equal(offsets == 0, row == row.max())


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=200, deadline=None)
@given(rows(), st.integers(0, 4))
def test_errors_stay_within_the_bound_that_is_stated(name: str, row: Tensor, label: int) -> None:
    offsets, _, stored = round_trip(ALL[name], row, torch.tensor([label]))
    gap = (row - row.max()).double()  # float32, as in the encoding
    bound = ALL[name].largest_error(stored)
    kept = torch.isfinite(bound)
    assert kept.sum() == DROPPING.get(name, 5)
    assert ((offsets.double() - gap).abs() <= bound.double())[kept].all()


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=200, deadline=None)
@given(
    st.one_of(rows(), st.sampled_from([torch.zeros(1, 5), torch.tensor([[0.0, -65504, -1, -2, -3]])])),
    st.integers(0, 4),
)
def test_no_encoded_row_is_called_a_problem(name: str, row: Tensor, label: int) -> None:
    """A reader refuses values that no encoder produces, and must accept all that one produces."""
    encoding = ALL[name] if name != "i16" else I16(5, step=2.0)
    stored = encoding.encode(row, torch.tensor([label]), words(1))
    for array, field in encoding.fields.items():
        assert field.problem(stored[array].numpy().astype(field.dtype)) == ""


def test_the_extremes_of_u8_and_float16s_negative_zero_are_no_problem() -> None:
    most = torch.finfo(torch.float32).max
    for row in ([[0.0, -most]], [[2.0, 2.0]], [[0.0, -(2.0**-149)]]):
        stored = U8(2).encode(torch.tensor(row), torch.tensor([0]))
        assert all(not field.problem(stored[name].numpy()) for name, field in U8(2).fields.items())
    assert half_problem(np.array([[-0.0, -1.0]], np.float16)) == ""
    assert half_problem(np.array([[0, -1], [-1, -2]], np.float16)) == "1 of its rows have no maximum"
    assert half_problem(np.array([[0, 1], [-1, np.inf]], np.float16)) == "1 of its values are not finite"


def test_u8_number_by_number() -> None:
    row = torch.tensor([[3.0, 3.0 - 2.54, 3.0 - 0.015, 3.0 - 0.005, 3.0]])  # a range of 254 steps of 0.01
    stored = U8(5).encode(row, torch.tensor([0]))
    assert stored["logits"].tolist() == [[1, 255, 3, 2, 1]]
    assert stored["step"].item() == pytest.approx(0.01)
    offsets = U8(5).decode(stored)["logits"]
    assert offsets[0].tolist() == pytest.approx([0, -2.535, -0.015, -0.005, 0])
    # A row of ties, and a row whose range underflows: no division by zero.
    ties = torch.tensor([[2.0, 2.0, 2.0], [0.0, -(2.0**-149), 0.0]])
    stored = U8(3).encode(ties, torch.tensor([0, 0]))
    assert stored["logits"].tolist() == [[1, 1, 1], [1, 2, 1]]
    assert U8(3).decode(stored)["logits"][0].tolist() == [0, 0, 0]


def test_i16_number_by_number() -> None:
    stored = I16(4, step=0.5).encode(torch.tensor([[1.0, 0.5, 0.4, -9.0]]), torch.tensor([0]))
    assert stored["logits"].tolist() == [[0, 1, 2, 20]]
    assert I16(4, step=0.5).decode(stored)["logits"].tolist() == [[0, -0.25, -0.75, -9.75]]
    largest = (2**15 - 1) * 0.5
    assert I16(2, step=0.5).encode(torch.tensor([[0, -largest]]), torch.tensor([0]))["logits"][0, 1] == 2**15 - 1
    text = refused(InputError, I16(2, step=0.5).encode, torch.tensor([[0, -largest - 1]]), torch.tensor([0]))
    assert text.startswith(f"teacher logits: expected finite values with a range up to {largest:g}, found a range of ")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-200, 0, width=32), min_size=5, max_size=5), st.sampled_from([0.5, 1.0, 4.0, 8.0]))
def test_i16s_divergence_is_bounded_by_hoeffdings_lemma(row: list[float], tau: float) -> None:
    logits = torch.tensor([row])
    offsets, _, _ = round_trip(I16(5), logits, torch.tensor([0]))
    given_, kept = (torch.log_softmax(values.double() / tau, 1) for values in (logits, offsets))
    assert (given_.exp() * (given_ - kept)).sum().item() <= (2.0**-5 / tau) ** 2 / 8 * (1 + 1e-6) + 1e-12


def test_topk_number_by_number() -> None:
    row = torch.tensor([[1.0, 4.0, 2.0, 3.0, 0.0], [1.0, 4.0, 2.0, 3.0, 0.0]])
    stored = TopK(5, k=2).encode(row, torch.tensor([3, 4]))
    assert stored["ids"].tolist() == [[1, 3], [1, 4]], "the label takes the last place where it is not among the k"
    assert stored["logits"].tolist() == [[0, -1], [0, -4]]
    lse = math.log(sum(math.exp(z - 4) for z in (1, 4, 2, 3, 0)))
    tails = [math.log(sum(math.exp(z - 4) for z in left) / 3) for left in ((1, 2, 0), (1, 2, 3))]
    assert stored["lse"].tolist() == pytest.approx([lse, lse])
    assert stored["tail"].tolist() == pytest.approx(tails)
    offsets = TopK(5, k=2).decode(stored)["logits"]
    assert offsets.flatten().tolist() == pytest.approx(
        [tails[0], 0, tails[0], -1, tails[0], *[tails[1], 0], *[tails[1]] * 2, -4]
    )


@settings(max_examples=100, deadline=None)
@given(rows(), st.integers(0, 4))
def test_topk_keeps_probabilities_and_the_tails_mass_at_tau_1(row: Tensor, label: int) -> None:
    offsets, _, stored = round_trip(ALL["topk"], row, torch.tensor([label]))
    true, kept = (torch.softmax(values.double(), 1) for values in (row, offsets))
    ids = stored["ids"]
    torch.testing.assert_close(kept.gather(1, ids), true.gather(1, ids), rtol=40 * 2.0**-11, atol=1e-9)
    tail = 3 * torch.exp(stored["tail"].double() - stored["lse"].double())
    torch.testing.assert_close(tail, 1 - true.gather(1, ids).sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 6])
def test_topk_needs_a_k_below_the_class_count(k: int) -> None:
    text = refused(InputError, TopK, 5, k=k)
    assert text == f"cache.topk.k is {k}; expected 2 to 4, below the number of classes"


@pytest.mark.parametrize(("classes", "ids"), [(100, "uint8"), (255, "uint8"), (256, "uint16"), (65536, "uint32")])
def test_topks_ids_have_the_smallest_type_that_leaves_its_maximum_free(classes: int, ids: str) -> None:
    field = TopK(classes, k=4).fields["ids"]
    assert (field.dtype.name, field.fill) == (ids, np.iinfo(ids).max)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(name: str, value: float) -> None:
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, value, 1.0, 2.0, 3.0]])
    text = refused(InputError, ALL[name].encode, row, torch.tensor([0, 0]), words(2))
    assert text.endswith("found a value that is not finite; look at the teacher's weights and preprocessing")


@pytest.mark.parametrize("name", ALL)
def test_blocks_of_rows_encode_as_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 2 of 7 rows, the last one shorter: labels, their shares, and words stay with their rows."""
    monkeypatch.setattr("prepkd.store.encodings.base.BLOCK", 2 * 5)
    logits, labels = 4 * torch.randn(7, 5, generator=torch.Generator().manual_seed(3)), torch.arange(7) % 5
    calls: list[int] = []
    encode = type(ALL[name]).encode

    def counted(self: LogitEncoding, raw: Tensor, *rest: Tensor) -> dict[str, Tensor]:
        calls.append(len(raw))
        return encode(self, raw, *rest)

    monkeypatch.setattr(type(ALL[name]), "encode", counted)
    blocks = encode_in_blocks(ALL[name], logits, labels, words(7))
    assert calls == [2, 2, 2, 1]
    whole = encode(ALL[name], logits, labels, words(7))
    assert blocks.keys() == whole.keys() and all(torch.equal(blocks[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", ALL)
def test_rows_are_decoded_in_blocks_as_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 5
    stored = ALL[name].encode(logits, labels, words(7))
    whole, decode, calls = ALL[name].decode(stored), type(ALL[name]).decode, []

    def counted(self: LogitEncoding, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        calls.append(len(rows["logits"]))
        return decode(self, rows)

    monkeypatch.setattr("prepkd.store.encodings.base.BLOCK", 2 * 5)
    monkeypatch.setattr(type(ALL[name]), "decode", counted)
    found = decode_in_blocks(ALL[name], stored)
    assert calls == [2, 2, 2, 1]
    assert found.keys() == whole.keys() and all(torch.equal(found[key], whole[key]) for key in whole)


def test_an_unknown_encoding_is_refused() -> None:
    text = refused(InputError, make_encoding, {"name": "f8"}, 5)
    assert text == "encoding is 'f8'; expected one of f16, u8, i16, topk, sampled; update prepkd"


@pytest.mark.parametrize("name", ALL)
def test_a_store_in_each_encoding(name: str, tmp_path: Path) -> None:
    layout = Layout(PLAN, ALL[name], 8)
    summary = write(tmp_path / "one", layout=layout)
    write(tmp_path / "two", layout=layout, order=lambda pending: reversed(pending))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    store = LogitStore.open(tmp_path / "one")
    assert store.encoding == ALL[name] and store.encoding.describe() == store.attributes.encoding.model_dump()
    for view in range(3):
        logits = raw(view, slice(0, 22))
        expected = ALL[name].decode(ALL[name].encode(logits, torch.from_numpy(LABELS), words_of(ALL[name], PLAN, view)))
        offsets, row_max = store.slab(view)
        assert np.array_equal(offsets, expected["logits"].numpy())
        assert np.array_equal(row_max, expected["row_max"].numpy())
        wrong = (logits.argmax(1).numpy() != LABELS).mean()
        assert summary["teacher_error_per_view"][view] == pytest.approx(wrong)
    if name != "i16":
        chunks = sum(len(data) for path, data in contents(tmp_path / "one").items() if "/c/" in path)
        assert chunks == layout.bytes
    views, samples = np.array([2, 0, 2]), np.array([5, 21, 0])
    assert np.array_equal(
        store.lookup(views, samples), np.stack([store.logits(v)[s] for v, s in zip(views, samples, strict=True)])
    )
    assert store.lookup(views[:0], samples[:0]).shape == (0, 5)


def test_ties_with_the_label_count_as_right(tmp_path: Path) -> None:
    """The teacher is right if t[y] == max(t), whichever of the maxima argmax returns."""
    writer = store_writing.open_writer(tmp_path / "store")
    for view, chunk in writer.pending():
        rows = writer.layout.length(chunk)
        writer.write(view, chunk, {"logits": torch.zeros(rows, 5).half(), "row_max": torch.zeros(rows)})
    assert writer.finish(LABELS)["teacher_error"] == 0


@pytest.mark.parametrize("name", ALL)
def test_what_is_measured_is_true(name: str) -> None:
    """Bytes, divergence and flips equal those of loops in float64."""
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(300, 5, generator=generator)
    labels = torch.randint(0, 5, (300,), generator=generator)
    found: dict[str, Any] = measure_encoding(ALL[name], logits, labels, words(300), other_bytes=3)
    offsets, _, stored = round_trip(ALL[name], logits, labels)
    for tau in (1, 2, 4, 8):
        divergences = []
        for given_row, kept_row in zip(logits.double().tolist(), offsets.double().tolist(), strict=True):
            p, q = (
                [math.exp(z / tau) / sum(math.exp(x / tau) for x in row) for z in row] for row in (given_row, kept_row)
            )
            divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        assert found["kl_mean"][str(tau)] == pytest.approx(np.mean(divergences), rel=6e-3, abs=1e-12)
        assert found["kl_max"][str(tau)] == pytest.approx(np.max(divergences), rel=6e-3, abs=1e-12)
    assert (found["rows"], found["argmax_flips"]) == (300, 0)
    sizes = {"f16": 5 * 2 + 4, "u8": 5 + 4 + 4, "topk": 2 * 2 + 2 + 4 + 4 + 4, "sampled": 3 * 2 + 3 + 1 + 4 + 4 + 4 + 4}
    if name == "i16":
        codec = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
        sizes["i16"] = len(codec.encode(stored["logits"].numpy())) / 300 + 4
    assert found["bytes_per_row"] == pytest.approx(sizes[name] + 3, abs=0.06)


def test_flips_are_counted() -> None:
    from prepkd.store.encodings.measure import argmax_flips

    given_ = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert argmax_flips(given_, torch.tensor([[0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])) == 1
    assert argmax_flips(given_, torch.tensor([[0.0, 0.0], [0.0, -1.0], [0.0, -1.0]])) == 2


def test_every_encoding_is_tried() -> None:
    assert set(ALL) == set(ENCODINGS)


def test_topk_keeps_both_labels_of_a_mixed_view() -> None:
    generator = torch.Generator().manual_seed(2)
    raw = torch.randn(200, 9, generator=generator)
    labels = mixture(
        *(torch.randint(9, (200,), generator=generator) for _ in range(2)), torch.rand(200, generator=generator), 9
    )
    encoding = TopK(9, k=4)
    stored = encoding.encode(raw, labels)
    for row, share, ids in zip(raw.tolist(), labels.tolist(), stored["ids"].tolist(), strict=True):
        own = [k for k in range(9) if share[k] > 0]
        others = sorted((k for k in range(9) if k not in own), key=lambda k: -row[k])
        assert ids == sorted(own + others[: 4 - len(own)], key=lambda k: -row[k])
    answers = encoding.decode(stored)
    assert torch.equal(is_wrong(answers["logits"], labels), is_wrong(raw, labels))
    assert torch.equal(answers["row_max"], raw.amax(dim=-1))
    # A share of 1 for one class equals that class as a label.
    single = torch.randint(9, (200,), generator=generator)
    as_share = encoding.encode(raw, torch.nn.functional.one_hot(single, 9).float())
    assert all(torch.equal(as_share[name], array) for name, array in encoding.encode(raw, single).items())
    assert "expected at least 3: views mix 2 labels" in refused(InputError, TopK(9, k=2).encode, raw, labels)


def test_an_encoding_declares_its_section_of_the_settings() -> None:
    """The section has the encoding's fields, limits and defaults, without fields outside of `settings`, such as i16's `step`."""
    sections = {name: encoding.section() for name, encoding in ENCODINGS.items() if encoding.settings}
    assert {name: list(section.model_fields) for name, section in sections.items()} == {
        "topk": ["k"],
        "sampled": ["n", "tau"],
    }
    cache = Cache(views=1, encoding="topk", topk={"k": 3})
    assert logit_encoding(cache, 5) == TopK(5, k=3) and logit_encoding(Cache(views=1, encoding="topk"), 100) == TopK(
        100
    )
    assert logit_encoding(Cache(views=1, encoding="i16"), 5) == I16(5)
    for wrong in (
        {"encoding": "f8"},
        {"topk": {"k": 1}},
        {"topk": {"n": 2}},
        {"sampled": {"n": 2}},
        {"sampled": {"tau": 0}},
        {"i16": {"step": 1.0}},
    ):
        with pytest.raises(ValidationError):
            Cache.model_validate({"views": 1} | wrong)
