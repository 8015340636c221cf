"""Encode named tensors, which are made of a teacher's features, as float16, float32 or bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from prepkd.errors import InputError
from prepkd.store.encodings.base import ArraySpec, Encoding, finite

MAX_TENSORS = 64
MAX_NAME_LENGTH = 200
MAX_ROW_ELEMENTS = 2**28  # numbers of one tensor per (view, sample)
FLOATS = {"float16": torch.float16, "float32": torch.float32}
BITS = "bits"  # truth values, seven per byte: the byte 255 means missing
PER_BYTE = 7
DTYPES = (*FLOATS, BITS)
KEYS = {"name", "shape", "dtype"}


def pack_bits(bits: Tensor) -> Tensor:
    """Truth values (N, ...) as uint8 (N, bytes): bit i of a byte is its i-th value, rows padded with False.

    >>> pack_bits(torch.tensor([[True, False, True, False, False, False, False, True]]))
    tensor([[5, 1]], dtype=torch.uint8)
    """
    flat = bits.flatten(1).to(torch.uint8)
    padded = F.pad(flat, (0, -flat.shape[1] % PER_BYTE)).view(len(flat), -1, PER_BYTE)
    return (padded << _shifts(padded.device)).sum(dim=-1, dtype=torch.uint8)


def unpack_bits(stored: Tensor, shape: Sequence[int]) -> Tensor:
    """The values, uint8 (N, *shape), 0 or 1, that `pack_bits` packed."""
    bits = (stored.unsqueeze(-1) >> _shifts(stored.device)) & 1
    return bits.flatten(1)[:, : prod(shape)].reshape(len(stored), *shape)


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(PER_BYTE, dtype=torch.uint8, device=device)


def packed(stored: NDArray[np.integer[Any]]) -> str:
    """Say how many bytes are no packed bits; '' if all are."""
    bad = np.count_nonzero(stored >> PER_BYTE)
    return f"{bad} of its bytes are no packed bits" if bad else ""


@dataclass(frozen=True)
class StoredTensor:
    """One named tensor of a row: its shape, and its type on disk, `float16`, `float32` or `bits`. Raises InputError."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or not 0 < len(self.name) <= MAX_NAME_LENGTH:
            raise InputError(f"encoding.tensors: a name is not printable text of up to {MAX_NAME_LENGTH} characters")
        sizes = all(type(size) is int and size > 0 for size in self.shape)
        if not sizes or len(self.shape) > 4 or prod(self.shape) > MAX_ROW_ELEMENTS:
            raise InputError(f"encoding.tensors: the shape of {self.name!r}; expected up to 4 sizes above 0")
        if self.dtype not in DTYPES:
            raise InputError(f"encoding.tensors: the dtype of {self.name!r}; expected one of {', '.join(DTYPES)}")

    @property
    def field(self) -> ArraySpec:
        """Its array, packed if it holds bits."""
        if self.dtype == BITS:
            return ArraySpec((-(-prod(self.shape) // PER_BYTE),), np.dtype("uint8"), 255, problem=packed)
        return ArraySpec(self.shape, np.dtype(self.dtype), np.nan, problem=finite)

    @property
    def bytes_per_row(self) -> int:
        """Bytes per (view, sample)."""
        return self.field.bytes_per_row


@dataclass(frozen=True)
class Tensors(Encoding):
    """Named tensors, the n-th stored as array `tensor<n>`: a name may be a module path, no file name. Raises InputError."""

    name: ClassVar[str] = "tensors"
    commit: ClassVar[str] = "tensor0"
    tensors: tuple[StoredTensor, ...]

    def __post_init__(self) -> None:
        if not 0 < len({one.name for one in self.tensors}) == len(self.tensors) <= MAX_TENSORS:
            raise InputError(f"encoding.tensors: expected 1 to {MAX_TENSORS} tensors of different names")

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], dtype: str) -> "Tensors":
        """The encoding of tensors of these shapes by name, all in one type."""
        return cls(tuple(StoredTensor(name, tuple(shape), dtype) for name, shape in shapes.items()))

    @classmethod
    def from_description(cls, tensors: object) -> "Tensors":
        """The encoding from the list that `describe` gives; raises InputError for another one."""
        if not isinstance(tensors, list) or len(tensors) > MAX_TENSORS:
            raise InputError(f"encoding.tensors: expected a list of up to {MAX_TENSORS}")
        if not all(isinstance(one, dict) and set(one) == KEYS and isinstance(one["shape"], list) for one in tensors):
            raise InputError(f"encoding.tensors: expected the keys {', '.join(sorted(KEYS))} of each")
        return cls(tuple(StoredTensor(one["name"], tuple(one["shape"]), one["dtype"]) for one in tensors))

    @property
    def arrays(self) -> dict[str, StoredTensor]:
        """The tensors, by array name."""
        return {f"tensor{place}": one for place, one in enumerate(self.tensors)}

    @property
    def fields(self) -> dict[str, ArraySpec]:
        """`tensor0`, `tensor1` ..., as float16, float32 or packed bits."""
        return {array: one.field for array, one in self.arrays.items()}

    @property
    def bytes_per_row(self) -> int:
        """Bytes per (view, sample)."""
        return sum(one.bytes_per_row for one in self.tensors)

    def encode(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode named tensors (N, ...) as arrays; raises InputError for another shape or a value that the type cannot hold."""
        encoded = {}
        for array, one in self.arrays.items():
            value = named[one.name]
            if tuple(value.shape[1:]) != one.shape:
                raise InputError(f"{one.name}: shape per sample {tuple(value.shape[1:])}, expected {one.shape}")
            if one.dtype == BITS:
                encoded[array] = pack_bits(value != 0)
                continue
            encoded[array] = value.to(FLOATS[one.dtype]).contiguous()
            if not bool(torch.isfinite(encoded[array]).all()):
                found = f"one above the range of {one.dtype}" if bool(torch.isfinite(value).all()) else "others"
                raise InputError(f"{one.name}: expected finite values, found {found}; look at the teacher's weights")
        return encoded

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors in their type on disk; bits as uint8, 0 or 1."""
        return {
            one.name: unpack_bits(stored[array], one.shape) if one.dtype == BITS else stored[array]
            for array, one in self.arrays.items()
        }

    def largest_error(self, name: str, values: Tensor) -> Tensor:
        """The bound on |decoded - value| of each number of a tensor, of the shape and type of `values`."""
        if next(one.dtype for one in self.tensors if one.name == name) != "float16":
            return torch.zeros_like(values)
        return torch.clamp(values.abs() * 2.0**-11, min=2.0**-25)  # half a unit in the last place; of a subnormal

    def describe(self) -> dict[str, Any]:
        """The name, and each tensor's name, shape and type."""
        listed = [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in self.tensors]
        return {"name": self.name, "tensors": listed}
