"""A method in params.yaml."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from prepkd.methods.grammar import SLOTS, methods, parse_method
from prepkd.methods.term import Adjustment, FeatureTerm, Temperature
from prepkd.methods.terms import TERMS


def _method(text: str) -> str:
    parse_method(text)
    return text


def _pattern() -> str:
    """A regular expression of the methods of two or more terms, in any order: what `parse_method` accepts."""
    slots = [[name for name, term in TERMS.items() if issubclass(term, kind)] for kind in SLOTS.values()]
    features = [[name] for name, term in TERMS.items() if issubclass(term, FeatureTerm)]
    implied = [name for name, term in TERMS.items() if issubclass(term, (Adjustment, Temperature))]
    excluded = [(names, names) for names in (*slots, *features)] + [(["kd"], implied), (implied, ["kd"])]
    term = f"(?:{'|'.join(name for names in (*slots, *features) for name in names)})"
    return f"^{''.join(_not_both(*names) for names in excluded)}{term}(?:\\+{term})+$"


def _not_both(first: list[str], second: list[str]) -> str:
    one, other = (f"(?:{'|'.join(names)})" for names in (first, second))
    return rf"(?!(?:.*\+)?{one}\+(?:.*\+)?{other}(?:\+|$))"


# Editors complete the listed methods; the pattern accepts other orders and feature terms.
MethodName = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema({"anyOf": [{"enum": methods()}, {"type": "string", "pattern": _pattern()}]}),
]
