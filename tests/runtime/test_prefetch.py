"""Items prefetched in a thread: the same ones, in order, at most `depth` of them, and exceptions in their place."""

import threading
from collections.abc import Iterator

import pytest
from prepkd.runtime.prefetch import overlap, prefetch


@pytest.mark.parametrize("depth", [0, 1, 2, 7])
def test_items_come_in_order_and_once(depth: int) -> None:
    assert list(prefetch(iter(range(5)), depth)) == [0, 1, 2, 3, 4]
    assert list(prefetch([], depth)) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_at_most_depth_items_wait(depth: int) -> None:
    made: list[int] = []
    reached = {n: threading.Event() for n in range(20)}

    def items() -> Iterator[int]:
        for n in range(20):
            made.append(n)
            reached[n].set()
            yield n

    source = prefetch(items(), depth)
    for n in range(10):
        assert next(source) == n
        assert reached[n + depth].wait(10), "the thread works without being asked"
        assert len(made) <= n + 1 + depth
    source.close()  # type: ignore[attr-defined]
    assert len(made) <= 10 + depth, "nothing is made after the consumer has stopped"


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_an_exception_is_raised_in_its_items_place(depth: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    source = prefetch(items(), depth)
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_a_thread_makes_them_and_is_gone_at_the_end() -> None:
    before = threading.active_count()
    makers = set(prefetch((threading.get_ident() for _ in range(3)), 2))
    assert makers != {threading.get_ident()} and len(makers) == 1
    assert threading.active_count() == before


def test_work_is_done_in_order_while_the_next_item_is_made() -> None:
    done: list[int] = []
    both = threading.Barrier(2, timeout=10)

    def items() -> Iterator[int]:
        for n in range(5):
            if n:
                both.wait()  # the previous item's work is under way
            yield n

    def work(n: int) -> int:
        if n < 4:
            both.wait()
        done.append(n)
        return n * n

    assert list(overlap(work, items())) == [0, 1, 4, 9, 16]
    assert done == list(range(5))
    assert list(overlap(work, [])) == []


def test_an_exception_of_work_or_items_is_raised_and_submitted_work_is_done() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        if n == 2:
            raise ValueError("full")
        done.append(n)

    with pytest.raises(ValueError, match="full"):
        list(overlap(work, range(5)))
    assert done == [0, 1]

    def items() -> Iterator[int]:
        yield 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(overlap(work, items()))
    assert done == [0, 1, 7]
