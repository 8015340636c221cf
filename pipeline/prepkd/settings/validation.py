"""Settings from files and options: overrides, validation, and a one-line message for the first error."""

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from prepkd.errors import InputError
from prepkd.settings.messages import expected, shown
from prepkd.settings.yaml import parse_yaml

M = TypeVar("M", bound=BaseModel)
LISTED = 40  # keys that a message may name


def override(raw: dict[str, Any], change: str, *, where: str) -> None:
    """Set a dotted key in nested dicts from `KEY=VALUE`; the value is YAML 1.2, so 1e-5 is a number."""
    key, equals, text = change.partition("=")
    *parents, leaf = key.split(".")
    if not equals or not leaf or not all(parents):
        raise InputError(f"{where}: {change!r}; expected KEY=VALUE, e.g. distill.kd.tau=8")
    for parent in parents:
        if raw.get(parent) is None:  # null: a section that is off, as `early_stop`
            raw[parent] = {}
        child = raw[parent]
        if not isinstance(child, dict):
            raise InputError(f"{where}: {key}: {parent} holds {shown(child)}, not settings")
        raw = child
    raw[leaf] = parse_yaml(text, f"{where}: {key} is {shown(text)}")


def validated(schema: type[M], raw: dict[str, Any], where: str) -> M:
    """Validate settings against their schema; raises InputError with one line for the first wrong key."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        explained = _explain(schema, raw, [dict(one) for one in error.errors()])
        raise InputError(f"{where}: {explained}") from None


def _explain(schema: type[BaseModel], raw: dict[str, Any], errors: list[dict[str, Any]]) -> str:
    """Summarise pydantic's errors in one line: the first wrong key, its value, the allowed values, and the number of others."""
    by_key: dict[str, list[dict[str, Any]]] = {}
    for error in errors:
        by_key.setdefault(".".join(_keys(raw, error)), []).append(error)
    key = ".".join(_keys(raw, errors[0]))
    others = len(by_key) - 1
    # A list with a wrong entry also fails the union's other alternatives: report the entry.
    inner = [other for other in by_key if other.startswith(f"{key}.") and len(errors[0]["loc"]) > key.count(".") + 1]
    if inner and errors[0]["loc"][-1] != "[key]":
        key, others = inner[0], others - 1
    more = f" (and {others} more)" if others else ""
    return _explain_key(schema, key, by_key[key]) + more


def _explain_key(schema: type[BaseModel], key: str, errors: list[dict[str, Any]]) -> str:
    error, *_ = errors
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        return f"unknown key {key}; {_allowed(key.rpartition('.')[2], _siblings(schema, key.split('.')))}"
    if error["type"] == "missing":
        return f"{key} is missing; expected a value"
    if error["loc"] and error["loc"][-1] == "[key]":
        return f"{key.rpartition('.')[0]} has the name {shown(error['input'])}; expected {expected(error)}"
    if error["type"] == "value_error":
        if isinstance(error["input"], dict | list | BaseModel):
            return f"{key}: {expected(error)}" if key else expected(error)
        return f"{key} is {shown(error['input'])}: {expected(error)}"
    # A union has one error per alternative.
    return f"{key} is {shown(error['input'])}; expected {' or '.join(expected(one) for one in errors)}"


def _keys(raw: object, error: dict[str, Any]) -> list[str]:
    """Return the parts of an error's location that are keys of the settings, without names of a union's alternatives."""
    keys = []
    for part in error["loc"]:
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]
        elif error["type"] != "missing":
            continue
        keys.append(str(part))
    return keys


def _allowed(key: str, siblings: list[str]) -> str:
    """List the allowed keys; if they are too many for one line, suggest those similar to the wrong one."""
    if len(siblings) <= LISTED:
        return f"allowed: {', '.join(siblings)}"
    close = difflib.get_close_matches(key, siblings, n=3)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{guess}`prepkd schema` lists the {len(siblings)} that are allowed"


def _siblings(schema: type[BaseModel], keys: Sequence[str]) -> list[str]:
    """Return the keys that are allowed in the section of the dotted key `keys`."""
    for key in keys[:-1]:
        if key not in schema.model_fields:  # a name from the settings, such as a teacher's
            continue
        # A section itself, or a dict of them.
        annotation = schema.model_fields[key].annotation
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                schema = kind
    return sorted(schema.model_fields)
