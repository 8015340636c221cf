"""Layouts of RepDistiller's and mdistiller's weight files: the key of the state dict, and the prefix of its names.

Layers need no renaming: the zoo uses RepDistiller's names, as mdistiller does; mdistiller's ResNets for ImageNet use
torchvision's. Sources: github.com/HobbitLong/RepDistiller (train_teacher.py, train_student.py, models/) and
github.com/megvii-research/mdistiller (mdistiller/engine/trainer.py, mdistiller/models/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prepkd.errors import InputError

PLAIN = "plain"


@dataclass(frozen=True)
class Layout:
    """One form of file: the keys beside `model`, and the prefix of the names to take from `model`."""

    project: str
    beside: tuple[str, ...]
    prefix: str = ""


# Each may also have the key `optimizer`. The first that fits applies.
LAYOUTS = (
    Layout("mdistiller", ("epoch", "best_acc"), prefix="module.student."),  # latest, best, epoch_N
    Layout("mdistiller", ()),  # student_latest, student_best, student_N, and teachers of Tiny ImageNet
    Layout("repdistiller", ("epoch", "accuracy")),  # ckpt_epoch_N.pth
    Layout("repdistiller", ("epoch", "best_acc")),  # NAME_best.pth
    Layout("repdistiller", ("opt",)),  # NAME_last.pth
)

# Both projects' preprocessing, by dataset; only mdistiller has Tiny ImageNet.
PREPROCESSING = {
    "cifar100": {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]},
    "tiny-imagenet": {"mean": [0.4802, 0.4481, 0.3975], "std": [0.2302, 0.2265, 0.2262]},
}


def unpack(content: object, where: object) -> tuple[dict[str, Tensor], str]:
    """Return the state dict in a file's content, and the file's form: `repdistiller`, `mdistiller` or `plain`.

    Plain is a state dict alone, under "state_dict", or under "model" beside other keys. Raises InputError.
    """
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        names = list(map(str, content["model"]))
        for layout in LAYOUTS:
            fits = set(content) - {"model", "optimizer"} == set(layout.beside)
            if fits and any(name.startswith(layout.prefix) for name in names):
                chosen = {k: v for k, v in content["model"].items() if str(k).startswith(layout.prefix)}
                state = _tensors(chosen, where)
                return {name.removeprefix(layout.prefix): value for name, value in state.items()}, layout.project
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        found = type(content).__name__
        raise InputError(f"{where}: holds {found}; expected a state dict, alone or under state_dict or model")
    return _tensors(content, where), PLAIN


def to_model(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict to the model's names: drop DataParallel's "module.", add the counters missing before PyTorch 0.4.1.

    These counters are batch norm's `num_batches_tracked`; only a norm with `momentum=None` uses them, so the model's own do.
    """
    own, prefix = model.state_dict(), "module."
    if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in own):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if any(key.endswith("num_batches_tracked") for key in state):
        return dict(state)
    return {**{key: value for key, value in own.items() if key.endswith("num_batches_tracked")}, **state}


def listed(names: Sequence[str]) -> str:
    """Join the first three names in one line."""
    # A name from a damaged file may contain line breaks.
    return " ".join(", ".join(names[:3]).split()) + (", ..." if len(names) > 3 else "")


def _tensors(content: Mapping[Any, Any], where: object) -> dict[str, Tensor]:
    strange = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if not strange:
        return dict(content)
    message = f"{where}: expected a state dict of tensors; found other values under {listed(strange)}"
    nearest = max(LAYOUTS, key=lambda layout: _agreement(layout, content))
    if "model" not in content and _agreement(nearest, content):
        keys = ", ".join((*nearest.beside, "model"))
        message += f"; closest to {nearest.project}'s files with {keys}: model is missing"
    raise InputError(message)


def _agreement(layout: Layout, content: Mapping[Any, Any]) -> float:
    """The share of top-level keys that a file and a layout have in common."""
    keys = set(map(str, content)) - {"optimizer"}
    return len(keys & set(layout.beside)) / len(keys | {*layout.beside, "model"})
