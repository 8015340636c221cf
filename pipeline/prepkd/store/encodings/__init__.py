"""Encodings of a row: `f16`, `u8`, `i16`, `topk` and `sampled` for logits, `tensors` for tensors made of features."""

from typing import Any

from prepkd.errors import InputError
from prepkd.store.encodings.base import (
    ArraySpec,
    Encoding,
    LogitEncoding,
    add_maximum,
    as_tensors,
    block_rows,
    blocks,
    decode_in_blocks,
    encode_in_blocks,
    numbers_per_row,
)
from prepkd.store.encodings.draws import words_of
from prepkd.store.encodings.f16 import F16
from prepkd.store.encodings.i16 import I16
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.tensors import StoredTensor, Tensors
from prepkd.store.encodings.topk import TopK
from prepkd.store.encodings.u8 import U8

__all__ = [
    "COMMITS",
    "ENCODINGS",
    "ArraySpec",
    "Encoding",
    "LogitEncoding",
    "StoredTensor",
    "Tensors",
    "add_maximum",
    "as_tensors",
    "block_rows",
    "blocks",
    "decode_in_blocks",
    "encode_in_blocks",
    "make_encoding",
    "numbers_per_row",
    "read_encoding",
    "words_of",
]

ENCODINGS: dict[str, type[LogitEncoding]] = {"f16": F16, "u8": U8, "i16": I16, "topk": TopK, "sampled": Sampled}
COMMITS = (LogitEncoding.commit, Tensors.commit)  # the arrays that hold the commit records of chunks


def make_encoding(description: dict[str, Any], classes: int) -> LogitEncoding:
    """Build an encoding of logits from the result of `describe`; raises InputError for an unknown name."""
    settings = {key: value for key, value in description.items() if key != "name"}
    if description["name"] not in ENCODINGS:
        raise InputError(f"encoding is {description['name']!r}; expected one of {', '.join(ENCODINGS)}; update prepkd")
    return ENCODINGS[description["name"]](classes, **settings)


def read_encoding(description: dict[str, Any], classes: int) -> Encoding:
    """Build the encoding that a store describes, of logits or of named tensors; raises InputError."""
    if description["name"] == Tensors.name:
        return Tensors.from_description(description.get("tensors"))
    return make_encoding(description, classes)
