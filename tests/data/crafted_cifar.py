"""A small dataset in the form of CIFAR-100's official files."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prepkd.data.sources.cifar import CIFAR100, Cifar
from prepkd.errors import InputError

CLASSES = 3


def content(**entry: object) -> bytes:
    return pickle.dumps(entry, protocol=2)  # the protocol of the official files


def batch(seed: int, rows: int = 4, **changes: object) -> dict[str, object]:
    data = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return {"data": data, "fine_labels": [i % CLASSES for i in range(rows)], **changes}


def write(raw: Path, files: dict[str, bytes], **changes: object) -> Cifar:
    """Write a small data set in the official form; return a source with its checksums."""
    folder = raw / "mini-python"
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
    source = replace(
        CIFAR100,
        name="mini",
        place="mini-python",
        train=tuple((name, md5[name]) for name in ("train_1", "train_2")),
        test=(("test", md5["test"]),),
        meta=("meta", md5["meta"]),
        classes=CLASSES,
    )
    return replace(source, **changes)  # type: ignore[arg-type]


def mini() -> dict[str, bytes]:
    return {
        "train_1": content(**batch(1)),
        "train_2": content(**batch(2, rows=3)),
        "test": content(**batch(3)),
        "meta": content(fine_label_names=["ant", "bee", "cat"]),
    }


def refusal(raw: Path, source: Cifar) -> str:
    with pytest.raises(InputError) as caught:
        source.read(raw)
    text = str(caught.value)
    assert "\n" not in text
    return text
