"""Mapping over items on several threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from prepkd.runtime.processors import processors

T = TypeVar("T")
R = TypeVar("R")


def threaded(
    work: Callable[[T], R], items: Iterable[T], batch: int = 256, initializer: Callable[[], None] | None = None
) -> Iterator[R]:
    """`map` on one thread per processor (Pillow decodes without the interpreter's lock), in order, `batch` items at a time.

    Each thread calls `initializer` first.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(processors(), initializer=initializer) as pool:
        while group := list(islice(remaining, batch)):
            yield from pool.map(work, group)
