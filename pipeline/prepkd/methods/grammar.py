"""The grammar of methods: terms joined by `+` say how the teacher's answer is corrected."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

TERMS = ("ce", "kd", "ka-ps", "ka-lsr", "dtd-flsw", "dtd-cwsm")
# Every method there is, once: an adjustment and a temperature may also stand the other way round.
METHODS = (*TERMS, *map("+".join, product(TERMS[2:4], TERMS[4:])))


@dataclass(frozen=True)
class Method:
    """What a student is taught: whether by a teacher, which adjustment (KA), which temperature (DTD)."""

    teacher: bool
    adjustment: Literal["ps", "lsr"] | None = None
    temperature: Literal["flsw", "cwsm"] | None = None

    @property
    def ce_weight(self) -> float:
        """The cross-entropy's weight under `auto`: 1 without a teacher, 0 with KA (its targets are right), else 0.1."""
        if not self.teacher:
            return 1.0
        return 0.0 if self.adjustment else 0.1


def parse_method(text: str) -> Method:
    """Parse `ka-ps+dtd-flsw` and its like, in any order; raises ValueError for what is unknown or contradicts itself."""
    terms = text.split("+")
    for term in terms:
        if term not in TERMS:
            raise ValueError(f"has no term {term!r}; terms joined by '+' out of: {', '.join(TERMS)}")
    if len(set(terms)) < len(terms):
        raise ValueError("names a term twice; each term at most once")
    if "ce" in terms and len(terms) > 1:
        raise ValueError("contradicts itself: 'ce' is training without a teacher; 'ce' alone, or set distill.ce_weight")
    if "kd" in terms and len(terms) > 1:
        raise ValueError("contradicts itself: ka-* and dtd-* change kd's target; leave out 'kd'")
    for family in ("ka-", "dtd-"):
        chosen = [term for term in terms if term.startswith(family)]
        if len(chosen) > 1:
            raise ValueError(f"contradicts itself: {' and '.join(chosen)} exclude each other; one of them")
    adjustment: dict[str, Literal["ps", "lsr"]] = {"ka-ps": "ps", "ka-lsr": "lsr"}
    temperature: dict[str, Literal["flsw", "cwsm"]] = {"dtd-flsw": "flsw", "dtd-cwsm": "cwsm"}
    return Method(
        teacher="ce" not in terms,
        adjustment=next((adjustment[term] for term in terms if term in adjustment), None),
        temperature=next((temperature[term] for term in terms if term in temperature), None),
    )
