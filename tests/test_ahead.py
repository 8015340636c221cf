"""Items made ahead in a thread: the same ones, in order, at most so many, and their faults in their place."""

import threading
from collections.abc import Iterator

import pytest
from prepkd.ahead import ahead


@pytest.mark.parametrize("depth", [0, 1, 2, 7])
def test_items_come_in_order_and_once(depth: int) -> None:
    assert list(ahead(iter(range(5)), depth)) == [0, 1, 2, 3, 4]
    assert list(ahead([], depth)) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_at_most_depth_items_wait(depth: int) -> None:
    made: list[int] = []
    reached = {n: threading.Event() for n in range(20)}

    def items() -> Iterator[int]:
        for n in range(20):
            made.append(n)
            reached[n].set()
            yield n

    source = ahead(items(), depth)
    for n in range(10):
        assert next(source) == n
        assert reached[n + depth].wait(10), "the thread works while nobody asks"
        assert len(made) <= n + 1 + depth
    source.close()  # type: ignore[attr-defined]
    assert len(made) <= 10 + depth, "nothing is made once the consumer has gone"


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_fault_is_raised_where_it_would_have_come(depth: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    source = ahead(items(), depth)
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_a_thread_makes_them_and_is_gone_at_the_end() -> None:
    before = threading.active_count()
    makers = set(ahead((threading.get_ident() for _ in range(3)), 2))
    assert makers != {threading.get_ident()} and len(makers) == 1
    assert threading.active_count() == before
