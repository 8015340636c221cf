"""All terms and schemes as rows, and a method's terms, for the command line and the reference page."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from prepkd.catalogue.requirements import FeatureCost, Pair, entry_bytes, feature_cost
from prepkd.methods.entries import entries_for
from prepkd.methods.grammar import SLOTS, parse_method
from prepkd.methods.kd import FixedTemperature
from prepkd.methods.schemes import MEANING, SCHEMES, Scheme
from prepkd.methods.term import Divergence, FeatureTerm, LabelTerm, Term
from prepkd.methods.terms import TERMS
from prepkd.methods.user_terms import is_user_term

KINDS = SLOTS | {"features": FeatureTerm}


@dataclass(frozen=True)
class TermRow:
    """A term: name, slot, one sentence, equation, settings (in the list their defaults), source, and its cost `asked`.

    `teacher`: whether it needs a teacher; `every_class`: the reason why it cannot use a store of drawn classes; `raw_logits`:
    whether it changes if a constant is added to a row of the teacher's logits; `views`: the number of views of a sample that it
    compares; `draws`: the values of every sample that it makes before each epoch, by name; `models`: the pair of models for which
    `asked` is computed. A scheme is a row of the slot `schemes`.
    """

    name: str
    slot: str
    summary: str
    equation: str
    settings: dict[str, object]
    source: str
    teacher: bool
    every_class: str
    raw_logits: bool
    views: int
    draws: tuple[str, ...]
    asked: FeatureCost
    models: str
    note: str = ""  # the temperature for which the default weights are published

    def as_json(self) -> dict[str, object]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class MethodSummary:
    """A method's terms, and the weights of the labels' loss and the divergence (as `auto` sets them) and of its feature terms.

    `entries`: the entries of `cache.features` that the method uses, with the bytes per (view, sample) of each one's store.
    """

    method: str
    rows: list[TermRow]
    weights: dict[str, float]
    entries: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes per (view, sample) of these stores, in addition to the logits."""
        return sum(self.entries.values())

    def as_json(self) -> dict[str, object]:
        """All fields, and the bytes."""
        return asdict(self) | {"bytes": self.bytes}


def with_defaults(term: type[Term]) -> Term:
    """A term with its default settings."""
    return term()


def rows(models: Pair, configured: Callable[[type[Term]], Term] = with_defaults) -> list[TermRow]:
    """One row per term, in the order of `SLOTS`, then the schemes; costs are for a pair of models and the settings."""
    ordered = [term for kind in KINDS.values() for term in TERMS.values() if issubclass(term, kind)]
    return [_row(with_defaults(term), _tempered(term), configured(term), models) for term in ordered] + [
        _scheme(one, models) for one in SCHEMES.values()
    ]


def method_summary(
    method: str,
    models: Pair,
    configured: Callable[[type[Term]], Term] = with_defaults,
    listed: Sequence[str] = (),
) -> MethodSummary:
    """A method's terms, including default ones, with their settings, and the entries for them, preferably from `listed`.

    Raises ValueError as `parse_method` does.
    """
    parsed = parse_method(method)
    found = [configured(term) for term in parsed.terms]
    weights = {parsed.labels.name: parsed.ce_weight}
    if parsed.divergence:
        weights[parsed.divergence.name] = parsed.kd_weight(parsed.ce_weight)
    weights |= {term.name: term.weight for term in found if isinstance(term, FeatureTerm)}
    features = [term for term in found if isinstance(term, FeatureTerm)]
    entries = {name: entry_bytes(name, features, models) for name in entries_for(features, listed)}
    return MethodSummary(method, [_row(term, {}, term, models) for term in found], weights, entries)


def slots() -> dict[str, str]:
    """The meaning of each slot and of `schemes`."""
    return {slot: (kind.__doc__ or "").splitlines()[0] for slot, kind in KINDS.items()} | {"schemes": MEANING}


def needs(row: TermRow) -> Sequence[str]:
    """The needs of a term in words, one per line."""
    one = row.asked
    logits = "the teacher's raw logits" if row.raw_logits else "the teacher's logits"
    lines = [] if row.slot == "features" else [logits if row.teacher else "no teacher"]
    if row.slot == "features":
        names = ", ".join(one.features)
        numbers = f"{sum(one.numbers.values()):,} numbers, {sum(one.bytes.values()):,} bytes per (view, sample)"
        lines.append(f"features {names}: {one.problem or numbers}")
    if row.views == 2:
        lines.append("extra views: a strong one beside each weak one, twice the logits' bytes per sample")
    if row.every_class:
        lines.append(f"not encoding `sampled`: {row.every_class}")
    if one.adapter_parameters:
        lines.append(f"an adapter of {one.adapter_parameters:,} parameters")
    if row.draws:
        lines.append(f"values per sample and epoch: {', '.join(row.draws)}")
    return lines


def _tempered(term: type[Term]) -> dict[str, object]:
    """The settings of the fixed temperature if the term is a divergence that uses it."""
    tempered = issubclass(term, Divergence) and term.tempered
    return _dotted(FixedTemperature.section or "", FixedTemperature().model_dump()) if tempered else {}


def _note(term: type[Term]) -> str:
    if term.published_tau is None:
        return ""
    return f"the default weights are published for kd.tau {term.published_tau:g}"


def _row(settings: Term, more: dict[str, object], configured: Term, models: Pair) -> TermRow:
    term = type(configured)
    section = f"own.{term.name}" if is_user_term(term) else settings.section
    return TermRow(
        term.name,
        next(slot for slot, kind in KINDS.items() if issubclass(term, kind)),
        (term.__doc__ or "").partition("\n")[0],
        term.equation,
        more | (_dotted(section, settings.model_dump(exclude=set(settings.ignored_settings))) if section else {}),
        term.source,
        not issubclass(term, LabelTerm),
        term.every_class,
        term.needs_raw,
        term.views,
        term.drawn,
        feature_cost(configured, models),
        models.described,
        _note(term),
    )


def _scheme(scheme: Scheme, models: Pair) -> TermRow:
    said = f"{scheme.chain} {scheme.deviation}"
    return TermRow(
        scheme.name,
        "schemes",
        said,
        "",
        scheme.settings,
        scheme.source,
        teacher=True,
        every_class="",
        raw_logits=False,
        views=1,
        draws=(),
        asked=FeatureCost(),
        models=models.described,
    )


def _dotted(key: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {key: value}
    return {name: one for part, inner in value.items() for name, one in _dotted(f"{key}.{part}", inner).items()}
