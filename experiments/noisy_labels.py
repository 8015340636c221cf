"""Add noise to the training labels of a prepared file: a share of them is replaced by another class, drawn uniformly.

    python experiments/noisy_labels.py data/cifar100.h5 0.2 noisy.h5     # a file for `prepare.dataset: h5`

The test split keeps its labels.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from prepkd.data.prepared.file import describe, load_split

SEED = 0


def main(prepared: Path, share: float, out: Path) -> None:
    """Write the file, and print the number of changed labels."""
    names = describe(prepared).class_names
    part = out.with_suffix(".part")
    with h5py.File(part, "w") as file:
        for split in ("train", "test"):
            found = load_split(prepared, split)
            labels = np.asarray(found.labels)
            given = with_noise(labels, share, len(names)) if split == "train" else labels
            file[f"{split}/images"], file[f"{split}/labels"] = np.asarray(found.images), given
            print(f"{split}: {int((given != labels).sum()):,} of {len(labels):,} labels changed")
        file["class_names"] = list(names)
    part.replace(out)


def with_noise(labels: NDArray[np.int64], share: float, classes: int) -> NDArray[np.int64]:
    """Replace round(N * share) labels, drawn without replacement, by another class; labels int64 (N,)."""
    draw = np.random.default_rng(SEED)
    chosen = draw.choice(len(labels), round(share * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + draw.integers(1, classes, len(chosen))) % classes
    return noisy


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
