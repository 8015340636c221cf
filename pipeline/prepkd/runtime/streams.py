"""Random words that are a pure function of (seed, stream, position), stable across NumPy versions."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """The purpose of random words: the highest byte of its stream numbers, so that no two purposes share words."""

    CACHED_VIEWS = 0x01  # sampled views, cached and shown to students, by view
    TABLE_ORDER = 0x02  # each sample's order of a finite recipe's views, by round
    CYCLE_START = 0x03  # a student's first view
    RANDOM_VIEWS = 0x04  # a student's view of each sample, by epoch
    STUDENT_ORDER = 0x05  # by epoch
    STUDENT_WEIGHTS = 0x06
    STUDENT_DROPOUT = 0x07  # by epoch
    ADAPTER_WEIGHTS = 0x08
    NOISY_ANSWERS = 0x09  # by epoch
    DISTURBED_LABELS = 0x0A  # by epoch
    STRONG_VIEWS = 0x0B  # the strong views beside cached ones, by view
    DRAWN_CLASSES = 0x0C  # the classes that the encoding `sampled` keeps, by view
    DRAWN_CLASSES_OF_STRONG = 0x0D  # the same for strong views, by view
    TEACHER_VIEWS = 0x10  # a teacher's training views, by epoch
    TEACHER_ORDER = 0x11  # by epoch
    TEACHER_WEIGHTS = 0x12
    TEACHER_DROPOUT = 0x13  # by epoch
    PROCESS_DROPOUT = 0x14  # of one of several processes, by step and rank
    VERIFIED_ROWS = 0x20
    # Prepared data: changing a number changes the choice of images.
    VAL = 0x40  # by class
    FLAT_SPLIT = 0x60  # of a folder without splits, by class
    SUBSET_OF_TRAIN = 0x80  # by class
    SUBSET_OF_VAL = 0xA0  # by class
    SUBSET_OF_TEST = 0xC0  # by class

    def stream(self, index: int = 0) -> int:
        """The number of this purpose's stream `index`, below 2^56."""
        return (self << 56) + index


@dataclass(frozen=True)
class DrawContext:
    """The inputs of an epoch's draws: the run's seed, the epoch, and the number of training samples and of classes."""

    seed: int
    epoch: int
    samples: int
    classes: int


def raw_words(seed: int, stream: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return words `start` to `start + count` of NumPy's Philox4x64-10 raw stream keyed by (seed, stream), uint64.

    Raw streams are stable across NumPy versions; the methods of `Generator` are not. A slice costs only its own length.
    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    philox = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    block, skip = divmod(start, 4)  # the counter advances once per four words
    philox.advance(block)
    return np.asarray(philox.random_raw(skip + count)[skip:], dtype=np.uint64)


def random_order(seed: int, stream: int, count: int) -> NDArray[np.int64]:
    """Return a permutation of 0 to `count` - 1, int64 (count,), a function of (seed, stream, count) alone.

    The sort is stable, so that equal words have the same order under every sorting algorithm of NumPy.
    """
    return np.argsort(raw_words(seed, stream, 0, count), kind="stable")


def bounded_integers(words: NDArray[np.uint64], limits: NDArray[np.uint64] | int) -> NDArray[np.int64]:
    """Map words to integers in [0, limit) by multiply-shift of the high 32 bits; the bias is below limit / 2^32."""
    limits = np.asarray(limits, dtype=np.uint64)
    return (((words >> np.uint64(32)) * limits) >> np.uint64(32)).astype(np.int64)


def bernoulli(words: NDArray[np.uint64], probability: float) -> NDArray[np.bool_]:
    """Whether an event of this probability happens, by the high 32 bits of each word; 0 means never, 1 always."""
    return np.asarray((words >> np.uint64(32)) < np.uint64(round(probability * 2**32)))


def normal(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Map words (..., n) to standard normal variates, float32 (..., 4 n), one per 16 bits, the lowest first.

    Each is one of 2^16 quantiles: at most 4.3 from 0, mean exactly 0, variance 0.9999. No vector library is used, since its
    last bits differ between machines.
    """
    parts = (words[..., np.newaxis] >> np.arange(0, 64, 16, dtype=np.uint64)) & np.uint64(0xFFFF)
    return np.asarray(_quantiles()[parts.reshape(*words.shape[:-1], -1)])


@cache
def _quantiles() -> NDArray[np.float32]:
    """The standard normal distribution's quantiles at (i + 1/2) / 2^16."""
    half = np.array([NormalDist().inv_cdf((i + 0.5) / 2**16) for i in range(2**15)], dtype=np.float32)
    return np.concatenate([half, -half[::-1]])


def torch_seed(seed: int, stream: int) -> int:
    """The seed of torch's generators for a stream: the high 32 bits of its first word.

    On the CPU torch uses only the low 32 bits of a seed, so seeds that differ only above them would be equal.
    """
    return int(raw_words(seed, stream, 0, 1)[0]) >> 32
