"""Claims of a file of weights: accuracy, class names, preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prepkd.runtime.files import read_object

CARD = "model.json"  # beside the weights that `save_checkpoint` writes
ACCURACIES = frozenset(
    {"test_top1", "accuracy", "acc", "acc1", "acc@1", "top1", "best_acc", "best_acc1", "best_accuracy", "best_prec1"}
) | {"best_top1", "test_acc", "test_accuracy", "val_acc", "val_accuracy"}
CLASSES = ("classes", "class_names", "classnames", "categories", "class_to_idx", "label2id", "idx_to_class", "id2label")
NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
MAX_CARD_BYTES = 2**24  # bytes


@dataclass(frozen=True)
class WeightClaims:
    """Top-1 in [0, 1], the class names in the order of the logits, mean and std of the preprocessing; None if not stated."""

    top1: float | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] | None = None


def find_claims(content: object, path: Path) -> WeightClaims:
    """Find claims at the top of a file's content, in its mappings, and in a prepkd checkpoint's card beside the file."""
    card = _card(path)
    places = [place for place in (card, content) if isinstance(place, Mapping)]
    places += [value for place in places for value in place.values() if isinstance(value, Mapping)]
    stated = [{str(key).casefold(): value for key, value in place.items()} for place in places if len(place) < 10_000]
    tops = (_share(place[key]) for place in stated for key in place if key in ACCURACIES)
    names = (_names(place[key]) for place in stated for key in CLASSES if key in place)
    return WeightClaims(
        next((top for top in tops if top is not None), None),
        next((found for found in names if found is not None), None),
        card.get("preprocessing") if isinstance(card.get("preprocessing"), Mapping) else None,
    )


def order_problem(theirs: Sequence[str] | None, ours: Sequence[str]) -> str | None:
    """Describe how class names differ in their order; None for equal orders, and for different sets of names.

    Case, spaces, '_' and '-' are ignored.
    """
    given, own = [_plain(str(name)) for name in theirs or ()], list(map(_plain, ours))
    if given == own or len(set(own)) != len(own) or sorted(given) != sorted(own):
        return None
    first = next(index for index, (a, b) in enumerate(zip(given, own, strict=True)) if a != b)
    wrong = sum(a != b for a, b in zip(given, own, strict=True))
    return f"{wrong} of {len(own)} classes are in another order: class {first} is {given[first]!r}, the data's is {own[first]!r}"


def unknown_class(theirs: Sequence[str], ours: Sequence[str]) -> str | None:
    """Return the first class name that is not among the data's, compared as in `order_problem`; None if all are."""
    own = set(map(_plain, ours))
    return next((str(name) for name in theirs if _plain(str(name)) not in own), None)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _card(path: Path) -> Mapping[str, Any]:
    card = path.with_name(CARD)
    if path.suffix != ".safetensors" or not card.is_file():
        return {}
    try:
        return read_object(card, MAX_CARD_BYTES)
    except ValueError:  # a file of another program: it claims nothing
        return {}


def _share(value: object) -> float | None:
    """Return a share in (0, 1], or a percentage in (1, 100] as a share; None for other values."""
    if isinstance(value, Tensor):
        plain = value.dtype in NUMBERS and value.layout == torch.strided and not value.is_meta and value.numel() == 1
        value = value.item() if plain else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        return None
    return value / 100 if value > 1 else float(value)


def _names(value: object) -> tuple[str, ...] | None:
    """Return the class names of a list, of name -> index, or of index -> name; None for other values."""
    if isinstance(value, list | tuple):
        return tuple(value) if value and all(isinstance(name, str) for name in value) else None
    if not isinstance(value, Mapping):
        return None
    pairs = [(a, b) if isinstance(b, str) and str(a).isdecimal() else (b, a) for a, b in value.items()]
    if not all(isinstance(name, str) and str(index).isdecimal() for index, name in pairs):
        return None
    ordered = sorted((int(str(index)[:9]), name) for index, name in pairs)
    return tuple(name for _, name in ordered) if [index for index, _ in ordered] == list(range(len(ordered))) else None
