"""Files of test logits: round trips, equal bytes, and damage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.errors import InputError
from prepkd.training.predictions import read_results, write_results
from safetensors.torch import save_file

HINT = "run `prepkd compare --run kd`"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    logits = {10: torch.randn(5, 3), 2: torch.randn(3, 5).T, 0: torch.randn(5, 3)}
    made_from = {"run": "kd", "training": {"lr": 0.1, "milestones": []}}
    write_results(tmp_path / "new" / "kd.safetensors", logits, made_from)
    results = read_results(tmp_path / "new" / "kd.safetensors", HINT)
    assert list(results.logits) == [0, 2, 10]  # sorted by number, so that runs are paired in any order
    for seed, values in logits.items():
        assert torch.equal(results.logits[seed], values)
    assert results.made_from == made_from


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    logits = {seed: torch.full((4, 3), float(seed)) for seed in range(12)}
    write_results(tmp_path / "a", logits, {"run": "kd", "test": "x"})
    write_results(tmp_path / "b", dict(reversed(logits.items())), {"test": "x", "run": "kd"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_bit_counts(tmp_path: Path) -> None:
    """A file with a flipped bit is refused or read unchanged."""
    path, logits = tmp_path / "kd", {0: torch.randn(4, 3), 4: torch.randn(4, 3)}
    write_results(path, logits, {"run": "kd", "training": {"lr": 0.1, "seeds": [0, 4]}})
    whole, refusals = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = read_results(path, HINT)
        except InputError as error:
            refusals += 1
            assert str(error).startswith(f"{path}: ") and str(error).endswith(HINT) and "\n" not in str(error)
        else:
            assert found.made_from == {"run": "kd", "training": {"lr": 0.1, "seeds": [0, 4]}}
            assert found.logits.keys() == logits.keys()
            assert all(torch.equal(found.logits[seed], values) for seed, values in logits.items())
    assert refusals > 0.95 * len(whole)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"seed4"', b'"seed9"'), (b'\\"kd\\"', b'\\"ce\\"'), (b"data_offsets", b"data_offset5"), (b"F32", b"I32")],
    ids=["a seed renamed", "another run", "a header's key", "another type"],
)
def test_a_changed_header_is_refused(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "kd"
    write_results(path, {4: torch.ones(4, 3)}, {"run": "kd"})
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    message = refused(path)
    assert message.startswith(f"{path}: ") and message.endswith(HINT)
    if b"seed9" in new or b"ce" in new:
        assert message.startswith(f"{path}: damaged: its sha256 is ")


def test_logits_of_other_names_or_shapes_are_refused(tmp_path: Path) -> None:
    """Well-formed files with a correct checksum are refused if their tensors are not logits by seed."""
    path = tmp_path / "kd"
    crafted: list[dict[Any, torch.Tensor]] = [
        {0: torch.ones(4, 3), 1: torch.ones(5, 3)},
        {0: torch.ones(4)},
        {0: torch.ones(4, 3), 1: torch.ones(4, 3).double()},
        {"s": torch.ones(4, 3)},
        {-1: torch.ones(4, 3)},
        {"٣": torch.ones(4, 3)},
        {},
    ]
    for logits in crafted:
        write_results(path, logits, {})
        assert "expected logits (N, K) of one shape, named seed0, seed1 and so on; run" in refused(path)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_results(path, HINT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "kd") == f"{tmp_path}/kd: no such file; {HINT}"


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "no metadata", "other metadata", "no JSON", "other tensors"])
def test_a_damaged_or_foreign_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "kd"
    write_results(path, {0: torch.zeros(4, 3)}, {})
    tensors = {"seed0": torch.zeros(2)}
    match kind:
        case "cut":
            path.write_bytes(path.read_bytes()[:-5])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("these are no tensors\n" * 9)
        case "no metadata":
            save_file(tensors, path)
        case "other metadata":
            save_file(tensors, path, metadata={"format": "pt"})
        case "no JSON":
            save_file(tensors, path, metadata={"prepkd": "{"})
        case "other tensors":
            save_file({"conv1.weight": torch.zeros(2)}, path, metadata={"prepkd": "{}"})
    message = refused(path)
    assert message.startswith(f"{path}: not readable (")
    assert message.endswith(f"); {HINT}")
