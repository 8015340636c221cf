"""Layouts of RepDistiller's and mdistiller's weight files: the key of the state dict, and the prefix of its names.

Layers need no renaming: the zoo uses RepDistiller's names, as mdistiller does; mdistiller's ResNets for ImageNet use
torchvision's. Sources: github.com/HobbitLong/RepDistiller (train_teacher.py, train_student.py, models/) and
github.com/megvii-research/mdistiller (mdistiller/engine/trainer.py, mdistiller/models/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PLAIN = "plain"


@dataclass(frozen=True)
class WeightLayout:
    """One form of file: the keys beside `model`, and the prefix of the names to take from `model`."""

    project: str
    beside: tuple[str, ...]
    prefix: str = ""


# Each may also have the key `optimizer`. The first that fits applies.
LAYOUTS = (
    WeightLayout("mdistiller", ("epoch", "best_acc"), prefix="module.student."),  # latest, best, epoch_N
    WeightLayout("mdistiller", ()),  # student_latest, student_best, student_N, and teachers of Tiny ImageNet
    WeightLayout("repdistiller", ("epoch", "accuracy")),  # ckpt_epoch_N.pth
    WeightLayout("repdistiller", ("epoch", "best_acc")),  # NAME_best.pth
    WeightLayout("repdistiller", ("opt",)),  # NAME_last.pth
)

# Both projects' preprocessing, by dataset; only mdistiller has Tiny ImageNet.
PREPROCESSING = {
    "cifar100": {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]},
    "tiny-imagenet": {"mean": [0.4802, 0.4481, 0.3975], "std": [0.2302, 0.2265, 0.2262]},
}


def layout_of(content: Mapping[object, object]) -> WeightLayout | None:
    """The layout that a file's content has; None if it has neither project's."""
    inside = content.get("model")
    if not isinstance(inside, Mapping):
        return None
    names = list(map(str, inside))
    for layout in LAYOUTS:
        fits = set(content) - {"model", "optimizer"} == set(layout.beside)
        if fits and any(name.startswith(layout.prefix) for name in names):
            return layout
    return None


def nearest_layout(content: Mapping[object, object]) -> str:
    """Name, for a message, the project whose files have such keys; empty if unknown, or if `model` is there."""
    nearest = max(LAYOUTS, key=lambda layout: _agreement(layout, content))
    if "model" in content or not _agreement(nearest, content):
        return ""
    return f"; closest to {nearest.project}'s files with {', '.join((*nearest.beside, 'model'))}: model is missing"


def listed(names: Sequence[str]) -> str:
    """Join the first three names in one line."""
    # A name from a damaged file may contain line breaks.
    return " ".join(", ".join(names[:3]).split()) + (", ..." if len(names) > 3 else "")


def _agreement(layout: WeightLayout, content: Mapping[object, object]) -> float:
    """The share of top-level keys that a file and a layout have in common."""
    keys = set(map(str, content)) - {"optimizer"}
    return len(keys & set(layout.beside)) / len(keys | {*layout.beside, "model"})
