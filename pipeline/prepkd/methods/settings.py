"""A method in params.yaml."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from prepkd.methods.grammar import contradiction, every_method, parse_method
from prepkd.methods.terms import TERMS


def _method(text: str) -> str:
    parse_method(text)
    return text


def _pattern() -> str:
    """Return a regular expression of the methods of two or more terms, in any order, that `parse_method` accepts."""
    refused = {
        name: [other for other, second in TERMS.items() if other == name or contradiction(term, second)]
        for name, term in TERMS.items()
    }
    term = f"(?:{'|'.join(TERMS)})"
    return f"^{''.join(_not_both(*names) for names in refused.items())}{term}(?:\\+{term})+$"


def _not_both(first: str, others: list[str]) -> str:
    return rf"(?!(?:.*\+)?{first}\+(?:.*\+)?(?:{'|'.join(others)})(?:\+|$))"


OWN = r"^(?:[\w-]+\+)*[\w.]+:\w+(?:\+[\w.:-]+)*$"  # a method with a term of the user's own

# Editors complete the listed methods; the patterns accept other orders, label terms, feature terms, and a user's own.
MethodName = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema(
        {"anyOf": [{"enum": every_method()}, *({"type": "string", "pattern": text} for text in (_pattern(), OWN))]}
    ),
]
