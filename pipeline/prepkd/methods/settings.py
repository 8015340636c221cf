"""A method in params.yaml."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from prepkd.methods.grammar import methods, parse_method
from prepkd.methods.terms import TERMS


def _method(text: str) -> str:
    parse_method(text)
    return text


_ANY_TERM = f"({'|'.join(TERMS)})"
# Editors complete the listed methods; the pattern accepts other orders and feature terms.
MethodName = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema({"anyOf": [{"enum": methods()}, {"type": "string", "pattern": rf"^{_ANY_TERM}(\+{_ANY_TERM})+$"}]}),
]
