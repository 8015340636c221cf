"""Where RepDistiller's and mdistiller's files keep a model's weights, and what stands before the layers' names there.

Layers themselves need no renaming: the zoo's bear RepDistiller's names, which mdistiller took over, and mdistiller's ResNets
for ImageNet bear torchvision's. Sources: github.com/HobbitLong/RepDistiller (train_teacher.py, train_student.py, models/)
and github.com/megvii-research/mdistiller (mdistiller/engine/trainer.py, mdistiller/models/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prepkd.errors import InputError

PLAIN = "plain"


@dataclass(frozen=True)
class Layout:
    """One form of file: the keys that stand beside `model`, and the prefix of the names that are taken from `model`."""

    project: str
    beside: tuple[str, ...]
    prefix: str = ""


# `optimizer` may stand beside each of them. The first that fits is taken.
LAYOUTS = (
    Layout("mdistiller", ("epoch", "best_acc"), prefix="module.student."),  # latest, best, epoch_N
    Layout("mdistiller", ()),  # student_latest, student_best, student_N, and teachers of Tiny ImageNet
    Layout("repdistiller", ("epoch", "accuracy")),  # ckpt_epoch_N.pth
    Layout("repdistiller", ("epoch", "best_acc")),  # NAME_best.pth
    Layout("repdistiller", ("opt",)),  # NAME_last.pth
)

# What both do to pixels, by data set; mdistiller alone has Tiny ImageNet.
PREPROCESSING = {
    "cifar100": {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]},
    "tiny-imagenet": {"mean": [0.4802, 0.4481, 0.3975], "std": [0.2302, 0.2265, 0.2262]},
}


def unpack(content: object, where: object) -> tuple[dict[str, Tensor], str]:
    """The state dict in what a file holds, and whose form the file has: `repdistiller`, `mdistiller` or `plain`.

    Plain is a state dict alone, under "state_dict", or under "model" beside anything else. Raises InputError.
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
    """A state dict by the model's names: without DataParallel's "module.", with the counters that PyTorch 0.4.0 didn't keep.

    These count a batch norm's batches; they matter to a norm with `momentum=None` alone, so the model keeps its own.
    """
    own, prefix = model.state_dict(), "module."
    if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in own):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if any(key.endswith("num_batches_tracked") for key in state):
        return dict(state)
    return {**{key: value for key, value in own.items() if key.endswith("num_batches_tracked")}, **state}


def listed(names: Sequence[str]) -> str:
    """The first three of some names, in one line."""
    # A damaged name may hold line breaks.
    return " ".join(", ".join(names[:3]).split()) + (", ..." if len(names) > 3 else "")


def _tensors(content: Mapping[Any, Any], where: object) -> dict[str, Tensor]:
    strange = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if not strange:
        return dict(content)
    message = f"{where}: expected a state dict of tensors; found something else under {listed(strange)}"
    nearest = max(LAYOUTS, key=lambda layout: _likeness(layout, content))
    if "model" not in content and _likeness(nearest, content):
        keys = ", ".join((*nearest.beside, "model"))
        message += f"; nearest to {nearest.project}'s files of {keys}: model is missing"
    raise InputError(message)


def _likeness(layout: Layout, content: Mapping[Any, Any]) -> float:
    """The share of top-level keys that a file and a layout have in common."""
    keys = set(map(str, content)) - {"optimizer"}
    return len(keys & set(layout.beside)) / len(keys | {*layout.beside, "model"})
