"""A model from a library, with or without pretrained weights: the interface, and helpers that all libraries share."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError, one_line

T = TypeVar("T")


@dataclass(frozen=True)
class Pretrained:
    """Weights offered by a library: their source, number of classes, preprocessing, and the classes' names if known."""

    source: str
    classes: int
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LibraryModel(ABC):
    """A model named `LIBRARY:MODEL` or `LIBRARY:MODEL:WEIGHTS`; `weights` is empty if the name has none."""

    name: str  # the whole name, as in params.yaml
    model: str
    weights: str

    @abstractmethod
    def check(self, in_channels: int) -> None:
        """Raise InputError if the library lacks the model, its weights or the channels; builds and downloads nothing."""

    @abstractmethod
    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the model, with its pretrained weights if the name has them.

        The classifier keeps its pretrained weights if they have `num_classes` classes; otherwise it is freshly initialised.
        Raises InputError as `check` does, and for a failed download.
        """

    @abstractmethod
    def pretrained(self) -> Pretrained | None:
        """Describe the pretrained weights; None if the name has none. Raises InputError for unknown weights."""

    def check_known(self, model: str, known: Sequence[str]) -> None:
        """Raise InputError unless the library's models include `model`."""
        if model not in known:
            library = self.name.partition(":")[0]
            raise InputError(f"model {self.name!r}: {library} has no model {model!r}{guess(model, known)}")

    def downloaded(self, source: str, fetch: Callable[[], T]) -> T:
        """Return `fetch()`; any failure becomes an InputError that names `source`."""
        try:
            return fetch()
        except Exception as error:  # noqa: BLE001 - urllib, requests, huggingface_hub and hash checks raise many types
            raise InputError(
                f"model {self.name!r}: downloading its weights, {source}, failed: {one_line(error, 200)}; try again, or drop "
                f"':{self.weights}' from the name and set `weights` to a file and `preprocessing` to what they expect"
            ) from None


def guess(model: str, known: Sequence[str]) -> str:
    """The known names closest to `model`, as the end of an error message; empty if none is close."""
    close = difflib.get_close_matches(model, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
