"""The grammar of methods: terms joined by `+`, at most one per slot, any number of feature terms."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations, product

from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.kd import KD, FixedTemperature
from prepkd.methods.schemes import SCHEMES
from prepkd.methods.term import (
    Adjustment,
    Divergence,
    FeatureTerm,
    LabelTerm,
    Perturbation,
    Standardisation,
    Temperature,
    Term,
)
from prepkd.methods.terms import TERMS
from prepkd.methods.user_terms import find_term

# The slots that act on the teacher's logits, in this order. Terms of one slot exclude each other.
LOGIT_SLOTS: dict[str, type[Term]] = {
    "perturbation": Perturbation,
    "adjustment": Adjustment,
    "standardisation": Standardisation,
    "temperature": Temperature,
    "divergence": Divergence,
}
SLOTS: dict[str, type[Term]] = {"labels": LabelTerm} | LOGIT_SLOTS


@dataclass(frozen=True)
class Method:
    """A parsed method: the term of each slot, and the feature terms. Without a divergence no logits are distilled; without
    a divergence and features the student learns from labels alone."""

    adjustment: type[Adjustment] | None = None
    temperature: type[Temperature] = FixedTemperature
    divergence: type[Divergence] | None = None
    feature_terms: tuple[type[FeatureTerm], ...] = field(default=())
    labels: type[LabelTerm] = CrossEntropy
    perturbation: type[Perturbation] | None = None
    standardisation: type[Standardisation] | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether the method needs a teacher."""
        return self.divergence is not None or bool(self.feature_terms)

    @property
    def terms(self) -> tuple[type[Term], ...]:
        """Every term that is used, defaults included, in the order in which they act."""
        logit_side = [getattr(self, slot) for slot in LOGIT_SLOTS] if self.divergence else []
        return self.labels, *(term for term in logit_side if term), *self.feature_terms

    @property
    def views(self) -> int:
        """The number of views of each sample that a step needs: 2 are a weak and a strong one."""
        return max(term.views for term in self.terms)

    @property
    def ce_weight(self) -> float:
        """The weight of the labels' loss under `auto`: that of the first other term that names one, else 1."""
        return next((term.ce_weight for term in self.terms if term.ce_weight is not None), 1.0)

    def kd_weight(self, ce_weight: float) -> float:
        """The divergence's weight under `auto`: that of the first term that names one, else 1 - ce_weight; 0 without one."""
        if self.divergence is None:
            return 0.0
        return next((term.kd_weight for term in self.terms if term.kd_weight is not None), 1.0 - ce_weight)


def parse_method(text: str) -> Method:
    """Parse `ka-ps+dtd-flsw`, `kd+my_terms:Huber` and similar, in any order.

    Raises ValueError for an unknown term or a contradiction.
    """
    names = text.split("+")
    for name in names:
        if name in SCHEMES:
            raise ValueError(f"has {name!r}, a scheme of `generations` and no term; `prepkd methods` says its settings")
    found = {name: find_term(name) for name in names}
    if len({term.name for term in found.values()}) < len(names):
        raise ValueError("names a term twice; each term at most once")
    for first, second in combinations(names, 2):
        if why := contradiction(found[first], found[second]):
            raise ValueError(f"contradicts itself: {why}")
    known = [name for name in TERMS if name in found]  # the order in the text does not count
    terms = [found[name] for name in [*known, *sorted(found.keys() - known)]]
    chosen = {slot: term for slot, kind in SLOTS.items() for term in terms if issubclass(term, kind)}
    if chosen.keys() & LOGIT_SLOTS.keys():
        chosen.setdefault("divergence", KD)
    features = tuple(term for term in terms if issubclass(term, FeatureTerm))
    return Method(**chosen, feature_terms=features)  # type: ignore[arg-type]


def contradiction(first: type[Term], second: type[Term]) -> str | None:
    """Return why two terms cannot be combined, naming both; None if they can."""
    for one, other in ((first, second), (second, first)):
        if one is CrossEntropy:
            return "'ce' is training without a teacher; 'ce' alone, or set distill.ce_weight"
        if one is KD and _on_logits(other) and not issubclass(other, Divergence):
            return f"kd is what {other.name} changes; leave out 'kd'"
        if issubclass(one, LabelTerm) and one.replaces_teacher and _on_logits(other):
            return f"{one.name} and {other.name} exclude each other: {one.name} has a teacher of its own, made of the labels"
        if other.name in one.excludes:
            return f"{one.name} and {other.name} exclude each other: {one.excludes[other.name]}"
        if issubclass(one, Divergence) and issubclass(other, Temperature) and not one.tempered:
            return f"{one.name} and {other.name} exclude each other: {one.name} has no temperature"
        if issubclass(one, Adjustment) and one.gives_probs and issubclass(other, Divergence) and not other.takes_probs:
            return f"{one.name} and {other.name} exclude each other: {other.name} needs logits, {one.name} gives probabilities"
    if any(issubclass(first, kind) and issubclass(second, kind) for kind in SLOTS.values()):
        return f"{first.name} and {second.name} exclude each other; one of them"
    return None


def _on_logits(term: type[Term]) -> bool:
    return any(issubclass(term, kind) for kind in LOGIT_SLOTS.values())


def every_method() -> list[str]:
    """Return every term alone, then every valid combination of terms on the logits, once, with slots in their order."""
    slots = [[None, *names] for names in names_by_slot(LOGIT_SLOTS.values())]
    joined = {"+".join(filter(None, names)) for names in product(*slots)} - {""}
    alone = [name for name, term in TERMS.items() if name in joined or not _on_logits(term)]
    return [*alone, *sorted(text for text in joined if text not in alone and parses(text))]


def names_by_slot(kinds: Iterable[type[Term]]) -> list[list[str]]:
    """The names of the terms of each kind."""
    return [[name for name, term in TERMS.items() if issubclass(term, kind)] for kind in kinds]


def parses(text: str) -> bool:
    """Whether the text is a method."""
    try:
        parse_method(text)
    except ValueError:
        return False
    return True
