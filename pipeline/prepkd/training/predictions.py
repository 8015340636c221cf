"""Files of test logits, which the comparison and the evaluation read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prepkd.errors import InputError
from prepkd.runtime.files import canonical_json, write_bytes


@dataclass(frozen=True)
class Results:
    """Test logits (N, K) by seed (a teacher's under 0), and the description of what made them."""

    logits: dict[int, Tensor]
    made_from: dict[str, Any]


def write_results(path: Path, logits: Mapping[int, Tensor], made_from: Mapping[str, object]) -> None:
    """Write test logits by seed as safetensors, deterministically (one metadata key)."""
    tensors = {f"seed{seed}": values.cpu().contiguous() for seed, values in logits.items()}
    write_bytes(path, save(tensors, metadata={"prepkd": canonical_json(made_from)}))


def read_results(path: Path, hint: str) -> Results:
    """Read a file of `write_results`; raises InputError, with a hint what to do."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {hint}")
    try:
        with safe_open(path, framework="pt") as file:
            logits = {int(name.removeprefix("seed")): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            made_from = json.loads(file.metadata()["prepkd"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())}); {hint}") from None
    return Results(dict(sorted(logits.items())), made_from)
