"""Random words that are a pure function of (seed, stream, position), stable across NumPy versions."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What random words are for. A purpose is the highest byte of its streams' numbers, so that no two share words."""

    CACHED_VIEWS = 0x01  # sampled views that are cached and shown to students, by view
    TABLE_ORDER = 0x02  # each sample's order of a finite recipe's views, by round
    CYCLE_START = 0x03  # a student's first view
    RANDOM_VIEWS = 0x04  # a student's view of each sample, by epoch
    STUDENT_ORDER = 0x05  # by epoch
    STUDENT_WEIGHTS = 0x06
    STUDENT_DROPOUT = 0x07  # by epoch
    ADAPTER_WEIGHTS = 0x08
    NOISY_ANSWERS = 0x09  # by epoch
    DISTURBED_LABELS = 0x0A  # by epoch
    TEACHER_VIEWS = 0x10  # views that a teacher is trained on, by epoch
    TEACHER_ORDER = 0x11  # by epoch
    TEACHER_WEIGHTS = 0x12
    TEACHER_DROPOUT = 0x13  # by epoch
    VERIFIED_ROWS = 0x20
    # Prepared data: another number is another choice of images.
    VAL = 0x40  # by class
    SUBSET_OF_TRAIN = 0x80  # by class
    SUBSET_OF_VAL = 0xA0  # by class
    SUBSET_OF_TEST = 0xC0  # by class

    def stream(self, index: int = 0) -> int:
        """The number of this purpose's stream `index`, below 2^56."""
        return (self << 56) + index


@dataclass(frozen=True)
class Draw:
    """What the draws of an epoch depend on: the run's seed, the epoch, and the number of training samples and of classes."""

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


def below(words: NDArray[np.uint64], limits: NDArray[np.uint64] | int) -> NDArray[np.int64]:
    """Map words to integers in [0, limit) by multiply-shift of the high 32 bits; the bias is below limit / 2^32."""
    limits = np.asarray(limits, dtype=np.uint64)
    return (((words >> np.uint64(32)) * limits) >> np.uint64(32)).astype(np.int64)


def torch_seed(seed: int, stream: int) -> int:
    """The seed of torch's generators for a stream: the high 32 bits of its first word.

    On the CPU torch reads the low 32 bits of a seed only, so seeds that differ above them would be equal.
    """
    return int(raw_words(seed, stream, 0, 1)[0]) >> 32
