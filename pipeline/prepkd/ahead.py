"""Work done ahead in a thread, while the consumer is busy: the next batches, the next epoch's answers."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    """The items in order, up to `depth` of them made in one thread before they are asked for; 0: each when it is asked for.

    What making one raises is raised where it would have come. Whoever stops early waits for the items under way.
    """
    if depth == 0:
        yield from items
        return
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[object]] = deque(pool.submit(next, source, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, source, _END))
            yield cast(T, item)
