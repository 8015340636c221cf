"""References and helpers for the store's tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from prepkd.cli import app
from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.store.place import get, keys, open_place
from prepkd.teacher.settings import Cache
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import WrapperStore


@dataclass(frozen=True)
class Example:
    """A teacher, its data set, and the store of its answers."""

    teacher: Normalised
    dataset: Dataset
    settings: Cache
    store: LogitStore


def refused(exception: type[Exception], function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Call the function, which must raise, and return its one-line message."""
    with pytest.raises(exception) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Cut(Exception):
    """Raised to stop the writer."""


class Watched(WrapperStore[Store]):
    """Lists the files in the order in which they are put; `before` is called with each key, and may raise."""

    def __init__(self, store: Store, before: Callable[[str], None] = lambda key: None) -> None:
        super().__init__(store)
        self.before, self.puts = before, list[str]()

    def _with_store(self, store: Store) -> "Watched":
        return self  # every view of the store that Zarr asks for shares one list of puts

    async def set(self, key: str, value: Buffer) -> None:
        self.before(key)
        await super().set(key, value)
        self.puts.append(key)


def files(url: str) -> dict[str, bytes]:
    """Return path -> bytes of every file of a store, local or remote."""
    place = open_place(url)
    return {key: get(place, key) or b"" for key in sorted(keys(place))}


def fail(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must exit with code 2, and return its one line of error."""
    assert app([*arguments], standalone_mode=False) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text.removeprefix("error: ").rstrip("\n")


def reference_encoding(logits: Any) -> tuple[Any, Any]:
    """Return z - max(z) in float16 and max(z), computed number by number."""
    offsets, row_max = np.zeros(logits.shape, np.float16), np.zeros(len(logits), np.float32)
    for i, row in enumerate(logits.astype(np.float32)):
        row_max[i] = max(row)
        for k, z in enumerate(row):
            gap = z - row_max[i]
            offsets[i, k] = np.float16(gap)
            if gap < 0 and offsets[i, k] == 0:
                offsets[i, k] = -np.float16(2.0**-24)
    return offsets, row_max
