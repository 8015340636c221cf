"""The order in which each sample goes through the rows of a finite recipe's table."""

import numpy as np
from numpy.typing import NDArray

from prepkd.runtime.streams import Purpose, bounded_integers, raw_words

ROUNDS = 12  # neighbouring views stay neighbouring rows for about one sample in 2^12


def table_rows(seed: int, views: NDArray[np.int64], samples: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The table's row, int64 (n,) in [0, count), of each sample (n,) under its view, (n,) or ().

    Every sample has a permutation of its own: e consecutive views are e draws without replacement, so they differ in at least
    as many of their integers as independent draws do. A view's rows need no memory beyond their own.
    Source: the swap-or-not shuffle of Hoang, Morris and Rogaway, arXiv 1208.1176: in each round x and key - x (mod count)
    change places or stay, by a random bit of the pair.
    """
    low, high = int(samples.min()), int(samples.max()) + 1

    def drawn(number: int) -> NDArray[np.uint64]:
        return raw_words(seed, Purpose.TABLE_ORDER.stream(number), low, high - low)[samples - low]

    rows = (views + bounded_integers(drawn(0), count)) % count
    for number in range(1, ROUNDS + 1):
        words = drawn(number)
        other = (bounded_integers(words, count) - rows) % count  # by the high 32 bits
        pair = np.maximum(rows, other).astype(np.uint64)
        # The parity of shared bits is a fair bit, independent between any two pairs; a row is below 2^31: the low 32 bits.
        swapped = np.bitwise_count(words & (2 * pair + 1)) % 2 == 1
        rows = np.where(swapped, other, rows)
    return rows
