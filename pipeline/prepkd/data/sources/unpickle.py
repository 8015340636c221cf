"""Read the CIFAR pickles without executing code."""

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prepkd.errors import InputError, one_line

# Errors observed with damaged pickles.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    struct.error,
)


class _Array:
    """A stand-in for a pickled uint8 array, until its pixels are read.

    NumPy's own reconstructors trust the pickle (a forged dtype turns bytes into object pointers); this one only reads bytes.
    It also avoids NumPy's warning about the integer `align` in these old files.
    """

    array: NDArray[np.uint8]

    def __setstate__(self, state: tuple[int, tuple[int, ...], "_DType", bool, bytes]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or not isinstance(content, bytes):
            raise ValueError("an array of something other than uint8")
        self.array = np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _DType:
    """A stand-in for the dtype uint8."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise ValueError(f"an array of {name!r}, not uint8")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which bytes do not have."""


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, *_: object) -> bytes:
    return text.encode("latin1")  # how Python 3 writes bytes in the old pickle protocols


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that allows arrays of bytes and no other callable."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """The stand-in for an allowed global; raises InputError for any other."""
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"{self._path}: the pickle asks for {module}.{name}; expected plain lists and arrays, so it is refused; "
                "put the official file there"
            )
        return _ALLOWED[module, name]


def unpickle(content: bytes, path: Path) -> dict[str, object]:
    """Read a pickled dict of plain values and uint8 arrays without executing code; strings of Python 2 stay bytes.

    `path` is for messages. Raises InputError if the pickle is damaged, is not a dict, or names any other class or function.
    """
    try:
        value = _Unpickler(content, path).load()
        if not isinstance(value, dict):
            raise ValueError(f"holds {type(value).__name__}, not a dict")
        return {
            key.decode() if isinstance(key, bytes) else str(key): item.array if isinstance(item, _Array) else item
            for key, item in value.items()
        }
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{path}: not a whole pickle of CIFAR data: {one_line(error)}; put the official file there"
        ) from None
