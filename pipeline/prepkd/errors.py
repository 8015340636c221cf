"""The one exception for input that the user can fix."""

from collections.abc import Mapping


class InputError(ValueError):
    """Bad input; the message says in one line what was expected, what was found, where, and how to fix it (exit code 2)."""


def refuse_differences(wanted: Mapping[str, tuple[object, object]], where: object, remedy: str) -> None:
    """Compare (found, expected) by field; raises InputError that names the first field that differs."""
    for field, (found, expected) in wanted.items():
        if found != expected:
            raise InputError(f"{where}: {field} is {_short(found)}, expected {_short(expected)}; {remedy}")


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
