"""Synthetic files in CIFAR-100's official form; run as a script, a `prepkd` that accepts them without the official md5."""

import hashlib
import pickle
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from prepkd.cli import main
from prepkd.data.sources import SOURCES
from prepkd.data.sources.cifar import CIFAR100, Cifar
from prepkd.data.sources.raw import RawData


def write(folder: Path, images_a_class: int = 5) -> Path:
    """Write noise in the form of the official files; a class is a brightness."""
    folder.mkdir(parents=True)
    labels = np.arange(100).repeat(images_a_class)
    for seed, name in enumerate(("train", "test")):
        noise = np.random.Generator(np.random.Philox(seed)).integers(0, 100, (len(labels), 3072))
        data = (noise + labels[:, None]).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "fine_labels": labels.tolist()}, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class{i}" for i in range(100)]}, protocol=2))
    return folder


@dataclass(frozen=True, kw_only=True)
class Unchecked(Cifar):
    """The CIFAR-100 source without the official checksums."""

    def read(self, raw: Path) -> RawData:
        """Read the files like the real ones, with their own checksums."""

        def md5(name: str) -> tuple[str, str]:
            content = (self.locate(raw) / name).read_bytes()
            return name, hashlib.md5(content, usedforsecurity=False).hexdigest()

        return replace(CIFAR100, train=(md5("train"),), test=(md5("test"),), meta=md5("meta")).read(raw)


if __name__ == "__main__":
    SOURCES["cifar100"] = Unchecked(**{field.name: getattr(CIFAR100, field.name) for field in fields(CIFAR100)})
    main()
