"""Pydantic's errors in plain words: the value found and the values allowed."""

from collections.abc import Callable, Mapping
from typing import Any

# By error type; the argument is the error's context. Other types keep pydantic's own message.
_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda _: "true or false",
    "dict_type": lambda _: "keys with settings",
    "finite_number": lambda _: "a finite number",
    "float_type": lambda _: "a number",
    "greater_than": lambda limits: f"> {limits['gt']:g}",
    "greater_than_equal": lambda limits: f">= {limits['ge']:g}",
    "int_type": lambda _: "a whole number",
    "less_than": lambda limits: f"< {limits['lt']:g}" if limits["lt"] < 1e6 else f"< {limits['lt']}",
    "less_than_equal": lambda limits: f"<= {limits['le']:g}",
    "list_type": lambda _: "a list",
    "literal_error": lambda allowed: str(allowed["expected"]),
    "model_type": lambda _: "keys with settings",
    "path_type": lambda _: "a path",
    "string_pattern_mismatch": lambda _: "letters, digits, '_' and '-'",
    "string_type": lambda _: "text",
    "too_short": lambda limits: (
        f"at least {limits['min_length']} {'entry' if limits['min_length'] == 1 else 'entries'}"
    ),
}


def expected(error: Mapping[str, Any]) -> str:
    """Describe the values that one of `ValidationError.errors()` allows, such as `> 0` or `a whole number`."""
    words = _WORDS.get(error["type"])
    if words:
        return words(error.get("ctx", {}))
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def shown(value: object) -> str:
    """Format a value as in YAML, cut to one short line."""
    spelled = {None: "null", True: "true", False: "false"}
    text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
