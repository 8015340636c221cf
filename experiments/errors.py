"""What the teachers of cifar100-teachers answer on the training images, view 0: a Markdown table on standard output.

    python experiments/errors.py experiments/cifar100-teachers/work

Images are grouped by what the teacher was trained on: labels that noisy_labels.py changed, and those that it kept; its own
images, and others. An answer is wrong if it is not the true label.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from prepkd import LogitStore
from scipy.special import softmax
from tabulate import tabulate

HEADER = (
    "teacher",
    "test top-1, %",
    "training images",
    "share, %",
    "wrong, %",
    "answers the changed label, %",
    "mean probability of the answer, %",
)


class Group(NamedTuple):
    """Training images of one kind: bool (N,), and the labels that the teacher was given, int64 (N,)."""

    name: str
    members: NDArray[np.bool_]
    given: NDArray[np.int64] | None = None


def main(work: Path) -> None:
    """Print one row per teacher and group."""
    images, labels = (train_array(work / "data/cifar100.h5", name) for name in ("images", "labels"))
    rows = []
    for store in sorted((work / "data/logits").glob("*.zarr")):
        name = store.stem
        card = json.loads((work / f"models/teachers/{name}/model.json").read_text())
        logits, first = LogitStore.open(store).logits(0), [f"`{name}`", f"{100 * card['test_top1']:.1f}"]
        for group in groups(work / "made" / name, images, labels):
            rows.append([*first, *row(logits, labels, group)])
            first = ["", ""]
    print(tabulate(rows, HEADER, tablefmt="pipe", disable_numparse=True))


def train_array(path: Path, name: str) -> NDArray[Any]:
    """Read an array of the training split of a prepared file."""
    with h5py.File(path) as file:
        return np.asarray(file[f"train/{name}"])


def groups(made: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[Group]:
    """Return the groups of a teacher that before.sh trained in the folder `made`; all images for one that it did not."""
    if (made / "images.h5").exists():
        given = train_array(made / "images.h5", "labels")
        return [Group("label kept", given == labels), Group("label changed", given != labels, given)]
    if made.exists():
        own = {image.tobytes() for image in train_array(made / "data/cifar100.h5", "images")}
        mine = np.array([image.tobytes() in own for image in images])
        return [Group("its own", mine), Group("others", ~mine)]
    return [Group("all", np.ones(len(labels), bool))]


def row(logits: NDArray[np.float32], labels: NDArray[np.int64], group: Group) -> list[str]:
    """Return the cells of a group: its share, wrong answers, changed labels among the answers, their mean probability."""
    answers, members = logits.argmax(axis=1), group.members
    repeated = "" if group.given is None else f"{100 * (answers == group.given)[members].mean():.1f}"
    sure = softmax(logits[members], axis=1).max(axis=1)
    return [
        group.name,
        f"{100 * members.mean():.0f}",
        f"{100 * (answers != labels)[members].mean():.1f}",
        repeated,
        f"{100 * sure.mean():.0f}",
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
