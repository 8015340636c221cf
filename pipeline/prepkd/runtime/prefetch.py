"""Work in a thread beside the main one: prefetch the next items, or process the last one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from prepkd.runtime.processors import compute_on

T = TypeVar("T")
R = TypeVar("R")
_END = object()


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield the items in order, up to `depth` of them made in one thread before they are asked for; 0: without a thread.

    An exception raised while an item is made is raised in the item's place. A consumer that stops early waits for the items
    under way.
    """
    if depth == 0:
        yield from items
        return
    source = iter(items)
    with ThreadPoolExecutor(1, initializer=compute_on) as pool:
        waiting: deque[Future[object]] = deque(pool.submit(next, source, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, source, _END))
            yield cast(T, item)


def overlap(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for each item in order, computed in one thread while the next item is made.

    A consumer that stops early, or whose items fail, waits for the work under way.
    """
    with ThreadPoolExecutor(1, initializer=compute_on) as pool:
        under_way: Future[R] | None = None
        for item in items:
            if under_way:
                yield under_way.result()
            under_way = pool.submit(work, item)
        if under_way:
            yield under_way.result()
