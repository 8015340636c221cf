"""Files of test logits, which the comparison and the evaluation read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prepkd.errors import InputError, one_line
from prepkd.models.checkpoint import check_teachers
from prepkd.runtime.files import array_fingerprint, canonical_json, fingerprint, write_bytes

NAME = re.compile(r"seed(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class TestLogits:
    """Test logits (N, K) by seed (a teacher's under 0), and a description of their origin."""

    logits: dict[int, Tensor]
    made_from: dict[str, Any]


def write_results(path: Path, logits: Mapping[int, Tensor], made_from: Mapping[str, object]) -> None:
    """Write test logits by seed as safetensors, deterministically (one metadata key), with a checksum of the content."""
    tensors = {f"seed{seed}": values.cpu().contiguous() for seed, values in logits.items()}
    described = {"made_from": dict(made_from), "sha256": _checksum(tensors, made_from)}
    write_bytes(path, save(tensors, metadata={"prepkd": canonical_json(described)}))


def read_results(path: Path, hint: str) -> TestLogits:
    """Read a file of `write_results`; raises InputError, with the hint, if it is missing, unreadable or damaged."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {hint}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            described = json.loads(file.metadata()["prepkd"])
        made_from, recorded = dict(described["made_from"]), described["sha256"]
        found = _checksum(tensors, made_from)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({one_line(error)}); {hint}") from None
    if found != recorded:
        raise InputError(f"{path}: damaged: its sha256 is {found[:12]}, expected {str(recorded)[:12]}; {hint}")
    check_teachers(made_from.get("teacher"), str(path))
    shapes = {(values.dtype, values.shape) for values in tensors.values()}
    if len(shapes) != 1 or not all(NAME.fullmatch(name) and values.ndim == 2 for name, values in tensors.items()):
        raise InputError(f"{path}: expected logits (N, K) of one shape, named seed0, seed1 and so on; {hint}")
    logits = {int(name.removeprefix("seed")): values for name, values in tensors.items()}
    return TestLogits(dict(sorted(logits.items())), made_from)


def finite(logits: Tensor, who: str, remedy: str) -> Tensor:
    """Return test logits (N, K); raises InputError, with the remedy, if any is not finite."""
    if strange := int((~logits.isfinite()).any(dim=1).sum()):
        raise InputError(f"{who}: its logits are not finite for {strange} of {len(logits)} test images; {remedy}")
    return logits


def _checksum(tensors: Mapping[str, Tensor], made_from: Mapping[str, object]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of the tensors, and of `made_from`."""
    arrays = {name: values.numpy() for name, values in tensors.items()}
    return fingerprint({"logits": array_fingerprint(arrays), "made_from": dict(made_from)})
