"""Read logits from `.npy`, `.pt` and `.safetensors` files: one array, or a row per sample index."""

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prepkd.errors import InputError, one_line
from prepkd.models.logit_checks import check_logits
from prepkd.models.weight_files import read_pickle, read_safetensors

ADVICE = "save one tensor (N, K) or (V, N, K): torch.save(logits, path)"
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


@dataclass(frozen=True)
class LogitFile:
    """The raw logits of a file, float32 (V, N, K), and the name of their dtype in the file."""

    path: Path
    raw: Tensor
    dtype: str


def read_logits(path: Path) -> LogitFile:
    """Read a file's raw logits (V, N, K), with V = 1 for a file of (N, K).

    The file holds one tensor, or one per sample keyed by its index, in any order. Nothing in it is executed. Raises
    InputError for a file that is missing, damaged or of another kind, for missing or repeated indices, and for values that
    are not float16, bfloat16, float32 or float64, not finite in float32, or probabilities.
    """
    if path.suffix not in READERS:
        raise InputError(f"{path}: ends in {path.suffix!r}; expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected logits")
    found = READERS[path.suffix](path)
    given = found if isinstance(found, Tensor) else _one_tensor(path, found)
    _check_numbers(path, [given])
    if given.ndim not in (2, 3) or 0 in given.shape:
        raise InputError(
            f"{path}: has the shape {tuple(given.shape)}; expected (samples, classes) or (views, samples, classes)"
        )
    raw = given.detach().float().reshape(-1, *given.shape[-2:]).contiguous()
    _check_values(path, raw)
    check_logits(raw, path)
    return LogitFile(path, raw, _name(given.dtype))


def _read_npy(path: Path) -> Tensor:
    try:
        # Memory-mapped, so that a header that promises more than the file holds fails before memory is allocated.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # noqa: BLE001 - a damaged header makes NumPy raise anything from tokenize's errors to MemoryError
        raise InputError(
            f"{path}: not a whole .npy file of numbers: {one_line(error)}; save it with numpy.save"
        ) from None
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError(f"{path}: holds {array.dtype}; expected logits in float16, float32 or float64")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _read_pt(path: Path) -> Tensor | Mapping[object, object]:
    content = read_pickle(path, kind="a file of logits", advice=ADVICE)
    if isinstance(content, Tensor | Mapping) and not (isinstance(content, Mapping) and not content):
        return content
    raise InputError(
        f"{path}: holds {type(content).__name__}; expected a tensor, or a dict of index to tensor; {ADVICE}"
    )


def _read_safetensors(path: Path) -> Mapping[object, object]:
    found: dict[object, object] = dict(read_safetensors(path).items())
    if not found:
        raise InputError(f"{path}: holds no tensor; expected one, or one for each sample's index")
    return found


READERS: dict[str, Callable[[Path], Tensor | Mapping[object, object]]] = {
    ".npy": _read_npy,
    ".pt": _read_pt,
    ".pth": _read_pt,
    ".safetensors": _read_safetensors,
}


def _one_tensor(path: Path, found: Mapping[object, object]) -> Tensor:
    """Return a file's single tensor, or stack the rows (K,) or (V, K) of all indices in order: (N, K) or (V, N, K)."""
    tensors = [value for value in found.values() if isinstance(value, Tensor)]
    if len(tensors) == 1 and tensors[0].ndim > 1:
        return tensors[0]
    rows: dict[int, Tensor] = {}
    spelled: dict[int, object] = {}
    for key, value in found.items():
        index = _index(key)
        if index is None or not isinstance(value, Tensor):
            raise InputError(
                f"{path}: has {key!r}: {type(value).__name__}; expected one tensor, or one for each sample's index 0, 1, ..."
            )
        if index in rows:
            raise InputError(
                f"{path}: has sample {index} twice, as {spelled[index]!r} and {key!r}; expected each index once"
            )
        rows[index], spelled[index] = value, key
    _check_complete(path, rows)
    first = rows[0]
    for index, row in rows.items():
        if (row.shape, row.dtype) != (first.shape, first.dtype) or row.ndim not in (1, 2):
            raise InputError(
                f"{path}: sample {index} is {row.dtype} {tuple(row.shape)}, sample 0 is {first.dtype} {tuple(first.shape)}; "
                "expected (classes,) or (views, classes), the same for every sample"
            )
    _check_numbers(path, rows.values())
    return torch.stack([rows[index] for index in range(len(rows))], dim=first.ndim - 1)


def _check_numbers(path: Path, tensors: Collection[Tensor]) -> None:
    """Refuse tensors without a number of their own for each value: a kilobyte can stand for any number of values."""
    for one in tensors:
        if one.dtype not in FLOATS or one.layout != torch.strided or one.is_meta:
            found = _name(one.dtype) + " without its values" * one.is_meta
            raise InputError(f"{path}: holds {found}; expected logits in float16, bfloat16, float32 or float64, dense")
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // one.itemsize for one in tensors}
    shown, held = sum(one.numel() for one in tensors), sum(storages.values())
    if shown > held:
        raise InputError(
            f"{path}: its tensors have {shown:,} numbers, of which it holds {held:,}; expected each number; "
            "save copies: tensor.clone()"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _index(key: object) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 19:
        return int(key)
    return key if isinstance(key, int) and not isinstance(key, bool) and key >= 0 else None


def _check_complete(path: Path, rows: Mapping[int, Tensor]) -> None:
    count = max(rows) + 1
    if missing := count - len(rows):
        first = list(itertools.islice((index for index in itertools.count() if index not in rows), min(missing, 5)))
        names = ", ".join(map(str, first)) + (", ..." if missing > 5 else "")
        hint = "; indices start at 0" if first[0] == 0 else ""
        raise InputError(f"{path}: {missing} of the indices 0 to {count - 1} are missing: {names}{hint}")


def _check_values(path: Path, raw: Tensor) -> None:
    finite = torch.isfinite(raw)
    if not bool(finite.all()):
        view, sample, label = (int(i) for i in torch.nonzero(~finite)[0])
        raise InputError(
            f"{path}: {int((~finite).sum())} values are not finite in float32, the first at view {view}, sample {sample}, "
            f"class {label}: {raw[view, sample, label].item()}"
        )
