"""Training without a teacher."""

from typing import ClassVar

from prepkd.methods.term import Term


class CrossEntropy(Term):
    """Cross-entropy with the labels, without a teacher; other methods add it with `ce_weight`."""

    name: ClassVar[str] = "ce"
    source: ClassVar[str] = "the baseline without a teacher"
    ce_weight: ClassVar[float | None] = 1.0
