"""All terms as rows, for the command line and the reference page."""

from dataclasses import asdict, dataclass

from prepkd.methods.grammar import SLOTS
from prepkd.methods.kd import FixedTemperature
from prepkd.methods.term import Divergence, FeatureTerm, Term
from prepkd.methods.terms import TERMS

KINDS = SLOTS | {"features": FeatureTerm}


@dataclass(frozen=True)
class Row:
    """A term: its name, its slot, one sentence, its settings with their defaults, its source."""

    name: str
    slot: str
    summary: str
    settings: dict[str, object]
    source: str

    def as_json(self) -> dict[str, object]:
        """All fields."""
        return asdict(self)


def rows() -> list[Row]:
    """One row per term, in the order of `TERMS`."""
    return [
        Row(
            name,
            next(slot for slot, kind in KINDS.items() if issubclass(term, kind)),
            (term.__doc__ or "").splitlines()[0],
            _settings(term),
            term.source,
        )
        for name, term in TERMS.items()
    ]


def _settings(term: type[Term]) -> dict[str, object]:
    """Dotted keys under `distill`; a divergence without settings of its own uses the fixed temperature's."""
    used = FixedTemperature if issubclass(term, Divergence) and term.tempered and term.section is None else term
    if used.section is None:
        return {}
    return _dotted(used.section, used().model_dump(exclude=set(used.ignores)))


def _dotted(key: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {key: value}
    return {name: one for part, inner in value.items() for name, one in _dotted(f"{key}.{part}", inner).items()}
