"""Synthetic files in CIFAR-100's official format; as a script, a `prepkd` that accepts them as the real ones."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from prepkd.cli import main
from prepkd.data.sources import registry as sources
from prepkd.data.sources.cifar import CIFAR100, read_cifar
from prepkd.data.sources.raw import RawData


def write(folder: Path, images_a_class: int = 5) -> Path:
    """Write noise in the official format; classes differ in brightness."""
    folder.mkdir(parents=True)
    labels = np.arange(100).repeat(images_a_class)
    for seed, name in enumerate(("train", "test")):
        noise = np.random.Generator(np.random.Philox(seed)).integers(0, 100, (len(labels), 3072))
        data = (noise + labels[:, None]).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "fine_labels": labels.tolist()}, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class{i}" for i in range(100)]}, protocol=2))
    return folder


def read(raw: Path) -> RawData:
    """Read the files like the real ones, without their checksums."""

    def md5(name: str) -> tuple[str, str]:
        content = (CIFAR100.locate(raw) / name).read_bytes()
        return name, hashlib.md5(content, usedforsecurity=False).hexdigest()

    return read_cifar(raw, replace(CIFAR100, train=(md5("train"),), test=(md5("test"),), meta=md5("meta")))


if __name__ == "__main__":
    sources.SOURCES["cifar100"] = read
    main()
