"""The grammar of methods: terms joined by `+`, at most one per slot of the logit side, any number of feature terms."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.kd import KD, FixedTemperature
from prepkd.methods.term import Adjustment, Divergence, FeatureTerm, Temperature, Term
from prepkd.methods.terms import TERMS

# Term classes that exclude each other, by the name of their slot.
SLOTS: dict[str, type[Term]] = {"adjustment": Adjustment, "temperature": Temperature, "divergence": Divergence}


@dataclass(frozen=True)
class Method:
    """A parsed method: the term of each slot on the logit side, and the feature terms. Without a divergence no logits
    are distilled; without any term the student learns from labels alone."""

    adjustment: type[Adjustment] | None = None
    temperature: type[Temperature] = FixedTemperature
    divergence: type[Divergence] | None = None
    features: tuple[type[FeatureTerm], ...] = field(default=())

    @property
    def teacher(self) -> bool:
        """Whether a teacher is asked."""
        return self.divergence is not None or bool(self.features)

    @property
    def terms(self) -> tuple[type[Term], ...]:
        """Every term that is used, defaults included."""
        logit_side = [self.adjustment, self.temperature, self.divergence] if self.divergence else []
        return *(term for term in logit_side if term), *self.features

    @property
    def ce_weight(self) -> float:
        """The cross-entropy's weight under `auto`: that of the first term that names one, else 1."""
        return next((term.ce_weight for term in self.terms if term.ce_weight is not None), 1.0)

    def kd_weight(self, ce_weight: float) -> float:
        """The divergence's weight under `auto`: its own, else 1 - ce_weight; 0 without a divergence."""
        if self.divergence is None:
            return 0.0
        return 1.0 - ce_weight if self.divergence.kd_weight is None else self.divergence.kd_weight


def parse_method(text: str) -> Method:
    """Parse `ka-ps+dtd-flsw` and similar, in any order; raises ValueError for an unknown term or a contradiction."""
    names = text.split("+")
    for name in names:
        if name not in TERMS:
            raise ValueError(f"has no term {name!r}; terms joined by '+' out of: {', '.join(TERMS)}")
    if len(set(names)) < len(names):
        raise ValueError("names a term twice; each term at most once")
    terms = [TERMS[name] for name in names]
    if CrossEntropy in terms and len(terms) > 1:
        raise ValueError("contradicts itself: 'ce' is training without a teacher; 'ce' alone, or set distill.ce_weight")
    if KD in terms and _any(terms, Adjustment, Temperature):
        raise ValueError("contradicts itself: ka-* and dtd-* change kd's target; leave out 'kd'")
    chosen: dict[str, type[Term]] = {}
    for slot, kind in SLOTS.items():
        found = [name for name in names if issubclass(TERMS[name], kind)]
        if len(found) > 1:
            raise ValueError(f"contradicts itself: {' and '.join(found)} exclude each other; one of them")
        if found:
            chosen[slot] = TERMS[found[0]]
    if chosen:
        chosen.setdefault("divergence", KD)
    features = tuple(term for term in TERMS.values() if term in terms and issubclass(term, FeatureTerm))
    return Method(**chosen, features=features)  # type: ignore[arg-type]


def _any(terms: Iterable[type[Term]], *kinds: type[Term]) -> bool:
    return any(issubclass(term, kinds) for term in terms)


def methods() -> list[str]:
    """Every method of the logit side, once: slots in the order adjustment, temperature, divergence; features are added."""
    slots = [
        [None, *(name for name, term in TERMS.items() if issubclass(term, kind))]
        for kind in (Adjustment, Temperature, Divergence)
    ]
    joined = {"+".join(filter(None, names)) for names in product(*slots)} - {""}
    alone = [name for name in TERMS if name in joined or not issubclass(TERMS[name], (Adjustment, Temperature))]
    return [*alone, *sorted(text for text in joined if text not in alone and _parses(text))]


def _parses(text: str) -> bool:
    try:
        parse_method(text)
    except ValueError:
        return False
    return True
