"""The interfaces of encodings: the arrays that store a row of named tensors; encoding and decoding of logits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any, ClassVar, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import create_model
from torch import Tensor

from prepkd.errors import InputError
from prepkd.runtime.allocator import new_slab
from prepkd.settings.section import Section

BLOCK = 2**20  # numbers of a tensor that are encoded or decoded at once
MAX_FLOAT = torch.finfo(torch.float32).max
NO_MAXIMUM = "of its rows have no maximum"
LOG_WEIGHTS = "log_weights"  # the log weights of the classes, from an encoding that draws
DRAW_BITS = 40  # bits of a random word


def finite(values: NDArray[np.floating[Any]]) -> str:
    """Say how many values are not finite; '' if all are."""
    bad = np.count_nonzero(~np.isfinite(values))
    return f"{bad} of its values are not finite" if bad else ""


def lowest(level: int) -> Callable[[NDArray[np.integer[Any]]], str]:
    """A check of integer levels (N, K), counted from each row's maximum: '' if each row's lowest is `level`."""

    def problem(levels: NDArray[np.integer[Any]]) -> str:
        bad = np.count_nonzero(levels.min(axis=-1) != level)
        return f"{bad} {NO_MAXIMUM}" if bad else ""

    return problem


@dataclass(frozen=True)
class ArraySpec:
    """One array of an encoding: the shape and dtype of a row. The fill value means "missing" and never occurs as a value.

    `problem` describes invalid rows (N, *width); it returns '' for rows that `encode` can produce. `is_index` marks an array of
    indices: a wrong one cannot be decoded, so every reader refuses it, `verify` included.
    """

    width: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float
    compressed: bool = False
    is_index: bool = False
    problem: Callable[[NDArray[Any]], str] = field(default=lambda rows: "", compare=False)

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one row before compression."""
        return int(np.prod(self.width, dtype=int)) * self.dtype.itemsize


class Encoding(ABC):
    """A stored form of rows of named tensors: arrays, one of which is written last and is a chunk's commit record."""

    name: ClassVar[str]
    commit: ClassVar[str]  # the name of that array

    @property
    @abstractmethod
    def fields(self) -> dict[str, ArraySpec]:
        """The arrays, by name."""

    @abstractmethod
    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors (N, ...) that the arrays (N, *width) hold."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The encoding as JSON: its name and its settings."""


@dataclass(frozen=True)
class LogitEncoding(Encoding):
    """A stored form of logits (N, K).

    Every encoding preserves which classes are at a row's maximum, and so whether the teacher is right: a nonzero gap never
    becomes zero. An encoding that drops classes preserves it for the others, the label always among them.
    """

    commit: ClassVar[str] = "logits"
    answers: ClassVar[tuple[str, ...]] = ("logits", "row_max")  # what `decode` returns
    draws: ClassVar[bool] = False  # whether it draws the classes it keeps, by a random word per row
    settings: ClassVar[tuple[str, ...]] = ()  # the fields that params.yaml sets, in its section `cache.NAME`
    classes: int

    @abstractmethod
    def encode(self, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> dict[str, Tensor]:
        """Encode raw logits (N, K), labels int64 (N,) or shares (N, K), as arrays (N, *width); raises InputError.

        `words` are those of `words_of`, int64 (N,), for an encoding that draws.
        """

    @abstractmethod
    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Decode the arrays of `encode`: `logits`, z - max(z) (N, K) in float16 or float32; `row_max`, max(z) float32 (N,)."""

    @abstractmethod
    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """The bound on |decoded - raw| of each logit, float32 (N, K); infinite for a class that was dropped."""

    def draw_error(self, stored: Mapping[str, Tensor], raw: Tensor, labels: Tensor, words: Tensor | None) -> Tensor:
        """The smallest error of the logits that explains which classes a row keeps, float64 (N,); 0 where none are drawn."""
        return raw.new_zeros(len(raw), dtype=torch.float64)

    @classmethod
    def section(cls) -> type[Section]:
        """Build the section of params.yaml that holds `settings`, with the fields' types, limits and defaults."""
        kinds = get_type_hints(cls, include_extras=True)
        chosen: Any = {
            field.name: (kinds[field.name], field.default) for field in fields(cls) if field.name in cls.settings
        }
        return create_model(cls.__name__, __base__=Section, __doc__=f"Settings of the encoding `{cls.name}`.", **chosen)

    def describe(self) -> dict[str, Any]:
        """The encoding as JSON: its name and its settings, without the class count."""
        settings = {key: value for key, value in asdict(self).items() if key != "classes"}
        return {"name": self.name} | settings


def encode_in_blocks(
    encoding: LogitEncoding, raw: Tensor, labels: Tensor, words: Tensor | None = None
) -> dict[str, Tensor]:
    """As `encoding.encode`, block by block, so that temporary memory does not grow with the number of rows."""

    def encode(block: slice) -> Mapping[str, Tensor]:
        return encoding.encode(raw[block], labels[block], None if words is None else words[block])

    return _in_blocks(encode, encoding, len(raw))


def decode_in_blocks(encoding: Encoding, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `encoding.decode`, block by block, so that temporary memory does not grow with the number of rows."""

    def decode(block: slice) -> Mapping[str, Tensor]:
        return encoding.decode({name: array[block] for name, array in stored.items()})

    return _in_blocks(decode, encoding, len(stored[encoding.commit]))


def _in_blocks(work: Callable[[slice], Mapping[str, Tensor]], encoding: Encoding, count: int) -> dict[str, Tensor]:
    """Apply `work` to each block of `count` rows and join the arrays."""
    if count <= block_rows(encoding):
        return dict(work(slice(0, count)))
    found: dict[str, Tensor] = {}
    for block in blocks(encoding, count):
        # Copied at once: small arrays that outlive their block would fragment the heap, which would grow.
        for name, made in work(block).items():
            if name not in found:
                found[name] = new_slab(made, count, *made.shape[1:])
            found[name][block] = made
    return found


def blocks(encoding: Encoding, count: int) -> list[slice]:
    """Split `count` rows into blocks."""
    rows = block_rows(encoding)
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def block_rows(encoding: Encoding) -> int:
    """The number of rows that are encoded or decoded at once."""
    return max(1, BLOCK // numbers_per_row(encoding))


def numbers_per_row(encoding: Encoding) -> int:
    """The number of elements of a row's largest tensor."""
    classes = encoding.classes if isinstance(encoding, LogitEncoding) else 1
    return max(classes, *(prod(field.width) for field in encoding.fields.values()))


def gaps(raw: Tensor, largest: float = MAX_FLOAT) -> tuple[Tensor, Tensor]:
    """max(z) - z in float32 (N, K), exactly zero at the maxima only, and max(z) (N,).

    Raises InputError for a logit that is not finite and for a row whose range is above `largest`.
    """
    row_max = raw.float().amax(dim=-1)
    gap = row_max.unsqueeze(-1) - raw.float()
    # NaN and infinities fail this comparison too: one pass over the data, one number copied from the device.
    if not bool((gap <= largest).all()) or not bool(torch.isfinite(row_max).all()):
        finite = bool(torch.isfinite(raw).all())
        found = f"a range of {gap.max().item():g} in one row" if finite else "a value that is not finite"
        limit = f" with a range up to {largest:g}" if largest < MAX_FLOAT else ""
        raise InputError(
            f"teacher logits: expected finite values{limit}, found {found}; "
            "look at the teacher's weights and preprocessing"
        )
    return gap, row_max


def add_maximum(answers: Mapping[str, Tensor]) -> Tensor:
    """The raw logits z (N, K) of `logits`, z - max(z) (N, K), and `row_max`, max(z) (N,), in the wider type of both."""
    return answers["logits"] + answers["row_max"].unsqueeze(-1)


def as_tensors(stored: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Convert a store's arrays to tensors; unsigned integers above 8 bits, which torch barely supports, become int64."""
    wide = {"uint16", "uint32"}
    return {
        name: torch.from_numpy(array.astype(np.int64) if array.dtype.name in wide else array)
        for name, array in stored.items()
    }
