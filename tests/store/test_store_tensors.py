"""Stores of named tensors: packed tensors come back, and invalid bytes are named."""

import numpy as np
import pytest
import torch
from prepkd.store.encodings import Tensors
from prepkd.store.encodings.tensors import pack_bits, unpack_bits


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5), (2, 4, 4)])
def test_bits_come_back(shape: tuple[int, ...]) -> None:
    bits = torch.rand(9, *shape, generator=torch.Generator().manual_seed(0)) < 0.5
    stored = pack_bits(bits)
    loops = [[sum(int(bit) << i for i, bit in enumerate(row[at : at + 7])) for at in range(0, len(row), 7)]
             for row in bits.flatten(1).tolist()]  # fmt: skip
    assert stored.dtype == torch.uint8 and stored.tolist() == loops
    assert torch.equal(unpack_bits(stored, shape), bits.to(torch.uint8))


def test_a_missing_byte_is_no_value() -> None:
    """A row of ones never equals the fill value, and a byte above seven bits is named."""
    (field,) = Tensors.of({"a": (14,)}, "bits").fields.values()
    encoded = Tensors.of({"a": (14,)}, "bits").encode({"a": torch.ones(3, 14, dtype=torch.bool)})["tensor0"].numpy()
    assert (field.width, field.fill, field.bytes_per_row) == ((2,), 255, 2)
    assert field.fill not in encoded and field.problem(encoded) == ""
    assert field.problem(np.array([[3, 255], [128, 127]], np.uint8)) == "2 of its bytes are no packed bits"


def test_numbers_count_as_true_where_they_are_not_zero() -> None:
    encoding = Tensors.of({"a": (3,)}, "bits")
    back = encoding.decode(encoding.encode({"a": torch.tensor([[0.0, -2.0, 0.5]])}))["a"]
    assert back.tolist() == [[0, 1, 1]] and back.dtype == torch.uint8
    assert encoding.largest_error("a", torch.ones(1, 3)).tolist() == [[0, 0, 0]]
