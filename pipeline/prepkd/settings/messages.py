"""Pydantic's errors in plain words: the value found and the values allowed."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prepkd.errors import InputError

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


@contextmanager
def section(name: str) -> Iterator[None]:
    """Name the keys of a section in errors: `distill.KEY` becomes `NAME.KEY`, since generations are students too.

    >>> with section("generations.two"):
    ...     raise InputError("distill.batch_size is 3")
    Traceback (most recent call last):
    prepkd.errors.InputError: generations.two.batch_size is 3
    """
    try:
        yield
    except InputError as error:
        raise InputError(*(re.sub(r"\bdistill\.", f"{name}.", line) for line in error.lines)) from error


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
