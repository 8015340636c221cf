"""Work in a background thread: prefetch the next items, or process the last one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from prepkd.runtime.processors import compute_on

T = TypeVar("T")
R = TypeVar("R")
_END = object()


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield the items in order, up to `depth` of them made ahead in one thread; depth 0 uses no thread.

    An exception raised while making an item is raised in the item's place. A consumer that stops early waits for the pending
    items.
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

    If the consumer stops early or making an item fails, the pending work is waited for.
    """
    with ThreadPoolExecutor(1, initializer=compute_on) as pool:
        under_way: Future[R] | None = None
        for item in items:
            if under_way:
                yield under_way.result()
            under_way = pool.submit(work, item)
        if under_way:
            yield under_way.result()
