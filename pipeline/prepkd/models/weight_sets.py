"""Find the weights of a model in a file's content: under any key, behind any prefix of their names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.models.weight_layouts import PLAIN, layout_of, listed, nearest_layout

DEPTH = 6  # of mappings within mappings
OPTIMIZER = {"state", "param_groups"}  # the keys of an optimizer's state dict, whose tensors are no weights
COUNTER = "num_batches_tracked"  # batch norm's; PyTorch 0.4.0 did not write it
# The modules that torch.compile, FSDP and activation checkpointing put around others; they have no weights of their own.
WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

T = TypeVar("T")
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class WeightSet:
    """Weights chosen from a file: tensors by the model's names, the file's form, and the key where they are in the file.

    `key` is empty for the whole file. `others` are keys of parts of the same weights, such as an average without batch
    norm's statistics; `unnamed` those of lists of tensors of the parameters' shapes, such as torch_ema's average. `classifier`
    names the tensors that are the model's own, since the file's are for other classes.
    """

    state: Mapping[str, Tensor]
    form: str
    key: str
    others: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()


def choose_weights(
    model: nn.Module, content: object, where: object, *, key: str | None = None, classes: int | None = None
) -> WeightSet:
    """Choose the weights that have the model's names and shapes; `key` names one of several sets.

    A name may start at any point of nested keys and dotted names: below `model_state_dict`, behind `module.`, or both. With
    `classes`, the model's number of classes, a classifier for other classes is left out. If no set fits, the closest is
    returned, and `load_strictly` then reports the differences. Raises InputError for a file without tensors, for several sets
    that fit, and for an unknown `key`.
    """
    found: dict[str, Tensor] = dict(_flattened(content, set()))
    if not found:
        raise InputError(f"{where}: {_no_tensors(content)}")
    layout, own = layout_of(content) if isinstance(content, Mapping) else None, model.state_dict()
    names = {WRAPPERS.sub("", name): name for name in own}
    shapes = {bare: shape_of(own[name]) for bare, name in names.items()}
    theirs = {name: shape_of(value) for name, value in found.items()}
    sets = {prefix: _under(prefix, theirs) for prefix in _prefixes(theirs, shapes)}
    below = {prefix: inside for prefix, inside in sets.items() if key is None or f"{prefix}.".startswith(f"{key}.")}
    if not below:
        raise InputError(f"{where}: weights_key is {key!r}, where no weights of this model are; {_keys(sets, shapes)}")
    fitting = [prefix for prefix, inside in below.items() if fits(inside, shapes, classes)]
    if layout and layout.prefix and key is None:  # a whole distiller, whose trained part is the student
        fitting = [prefix for prefix in fitting if f"{prefix}." == f"model.{layout.prefix}"] or fitting
    if len(fitting) > 1:
        raise InputError(
            f"{where}: {len(fitting)} sets of weights fit the model: {', '.join(map(_shown, fitting))}; "
            "set weights_key to one of them"
        )
    chosen = fitting[0] if fitting else max(below, key=lambda prefix: _agreement(below[prefix], shapes))
    state = _completed({names.get(name, name): value for name, value in _under(chosen, found).items()}, own)
    other_classes = [name for name, value in state.items() if fitting and shape_of(value) != shape_of(own[name])]
    parts = [prefix for prefix, inside in sets.items() if prefix != chosen and _is_part(inside, shapes)]
    return WeightSet(
        state | {name: own[name] for name in other_classes},
        layout.project if layout else PLAIN,
        chosen,
        tuple(map(_shown, parts)) if fitting and key is None else (),
        tuple(map(_shown, _unnamed(theirs, model))) if fitting and key is None else (),
        tuple(other_classes),
    )


def shape_of(value: Tensor) -> Shape:
    """Return a tensor's shape; for a nested tensor, which has none, a shape that no weight has."""
    return (-1,) if value.is_nested else tuple(value.shape)


def fits(theirs: Shapes, ours: Shapes, classes: int | None) -> bool:
    """Whether names and shapes are the model's; with `classes`, the classifier may be for another number of classes.

    All of batch norm's counters may be missing.
    """
    if not any(name.endswith(COUNTER) for name in theirs):
        ours = {name: shape for name, shape in ours.items() if not name.endswith(COUNTER)}
    if theirs.keys() != ours.keys():
        return False
    different = [name for name in ours if theirs[name] != ours[name]]
    if not different or classes is None:
        return not different
    ends = {theirs[name][:1] for name in different}
    return len(ends) == 1 and all(
        (*ours[name][:1], *theirs[name][1:]) == (classes, *ours[name][1:]) for name in different
    )


def _flattened(content: object, seen: set[int], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested mappings and lists by its dotted name, once; an optimizer's are left out."""
    if not isinstance(content, Mapping | list | tuple) or depth > DEPTH or id(content) in seen:
        return
    if isinstance(content, Mapping) and set(content) >= OPTIMIZER:
        return
    seen.add(id(content))
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        if isinstance(key, str | int) and isinstance(value, Tensor):
            yield WRAPPERS.sub("", f"{prefix}{key}"), value
        elif isinstance(key, str | int):
            yield from _flattened(value, seen, f"{prefix}{key}.", depth + 1)


def _prefixes(theirs: Shapes, ours: Shapes) -> list[str]:
    """Every prefix, without its last dot, before a name of the model; if there is none, the one that all tensors share."""
    prefixes: dict[str, None] = {}
    for name in theirs:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in ours:
                prefixes[".".join(parts[:start])] = None
    if prefixes:
        return list(prefixes)
    modules = {tuple(name.split(".")[:-1]) for name, shape in theirs.items() if shape not in ((), (1,))}
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*modules, strict=False))
    return [".".join(parts[0] for parts in shared) if len(modules) > 1 else ""]


def _under(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    start = f"{prefix}." if prefix else ""
    return {name.removeprefix(start): value for name, value in named.items() if name.startswith(start)}


def _agreement(theirs: Shapes, ours: Shapes) -> tuple[float, float]:
    """The share of tensors that agree in name and shape, then of those that agree in name."""
    union = len(theirs.keys() | ours.keys())
    return len(theirs.items() & ours.items()) / union, len(theirs.keys() & ours.keys()) / union


def _is_part(theirs: Shapes, ours: Shapes) -> bool:
    """Whether these are some of the model's tensors, at least half of them, and no others."""
    return theirs.items() < ours.items() and 2 * len(theirs) >= len(ours)


def _unnamed(theirs: Shapes, model: nn.Module) -> list[str]:
    """The keys of lists of tensors that have the shapes of the model's parameters, in their order."""
    shapes = [shape_of(one) for one in model.parameters()]
    lists = [name.removesuffix(".0") for name in theirs if name.endswith(".0")]
    return [prefix for prefix in lists if list(_under(prefix, theirs).values()) == shapes]


def _completed(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the model's own batch-norm counters if the file has none: only a norm with `momentum=None` uses them."""
    if any(name.endswith(COUNTER) for name in state):
        return state
    return {name: value for name, value in own.items() if name.endswith(COUNTER)} | state


def _no_tensors(content: object) -> str:
    if not isinstance(content, Mapping) or not content:
        return f"holds {type(content).__name__}; expected a state dict, alone or under a key such as state_dict"
    keys = listed(list(map(str, content)))
    return f"expected a state dict of tensors; found other values under {keys}{nearest_layout(content)}"


def _keys(sets: Mapping[str, Shapes], ours: Shapes) -> str:
    known = [_shown(prefix) for prefix, theirs in sets.items() if 2 * len(theirs.keys() & ours.keys()) >= len(ours)]
    return f"there are some under {', '.join(known)}" if known else "nor are they elsewhere in the file"


def _shown(prefix: str) -> str:
    return " ".join(prefix.split()) or "no key: the whole file is one set"
