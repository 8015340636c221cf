"""Random words that are a pure function of (seed, stream, position), stable across NumPy versions."""

import numpy as np
from numpy.typing import NDArray


def raw_words(seed: int, stream: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return words `start` to `start + count` of NumPy's Philox4x64-10 raw stream keyed by (seed, stream), uint64.

    Raw streams are stable across NumPy versions; the methods of `Generator` are not. A slice costs only its own length.
    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    philox = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    block, skip = divmod(start, 4)  # the counter advances once per four words
    philox.advance(block)
    return np.asarray(philox.random_raw(skip + count)[skip:], dtype=np.uint64)


def below(words: NDArray[np.uint64], limits: NDArray[np.uint64] | int) -> NDArray[np.int64]:
    """Map words to integers in [0, limit) by multiply-shift of the high 32 bits; the bias is below limit / 2^32."""
    limits = np.asarray(limits, dtype=np.uint64)
    return (((words >> np.uint64(32)) * limits) >> np.uint64(32)).astype(np.int64)
