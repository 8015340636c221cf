"""What the store's tests compare with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from prepkd.lesson import Lesson
from prepkd.models import Normalised
from prepkd.params import Cache
from prepkd.store import LogitStore


@dataclass(frozen=True)
class Example:
    """A teacher, what it looks at, and the store of its answers."""

    teacher: Normalised
    lesson: Lesson
    settings: Cache
    store: LogitStore


def refused(exception: type[Exception], function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(exception) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reference_encoding(logits: Any) -> tuple[Any, Any]:
    """z - max(z) in float16 and max(z), one number after the other."""
    offsets, row_max = np.zeros(logits.shape, np.float16), np.zeros(len(logits), np.float32)
    for i, row in enumerate(logits.astype(np.float32)):
        row_max[i] = max(row)
        for k, z in enumerate(row):
            gap = z - row_max[i]
            offsets[i, k] = np.float16(gap)
            if gap < 0 and offsets[i, k] == 0:
                offsets[i, k] = -np.float16(2.0**-24)
    return offsets, row_max
