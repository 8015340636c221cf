"""Parse untrusted settings in YAML 1.2, with bounds checked before any value is used; write values as YAML."""

import sys
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from prepkd.errors import InputError, one_line
from prepkd.settings.messages import shown

MAX_BYTES = 1 << 18  # bytes of a file, unless the caller allows more
MAX_DEPTH = 32  # collections within each other
MAX_VALUES = 100_000  # with every alias (`*name`) counted as the values that it expands to
# Besides its own exceptions, ruamel.yaml raises these for invalid tags, dates and numbers.
_MALFORMED = (YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class BoundedConstructor(SafeConstructor):
    """A constructor that refuses merge keys (`<<: *name`) that copy too many values: a few lines could fill the memory."""

    copied = 0

    def flatten_mapping(self, node: MappingNode) -> None:
        """Replace a mapping's merge key by the mapping that it names; raises ConstructorError."""
        if any(key.tag.endswith(":merge") and isinstance(value, SequenceNode) for key, value in node.value):
            raise ConstructorError(None, None, "a merge key (<<) with a list; name one mapping", node.start_mark)
        before = len(node.value)
        super().flatten_mapping(node)
        self.copied += max(len(node.value) - before, 0)
        if self.copied > MAX_VALUES:
            raise ConstructorError(None, None, "too many merge keys (<<); write their values out", node.start_mark)


def parse_yaml(source: Path | str, where: str, *, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Parse a file, or text: null, booleans, numbers, text, lists, and keys with values.

    Raises InputError with one line that begins with `where` for anything else: tags, dates, keys that are lists, integers of
    more than 64 bits, aliases within themselves, and a document that is too large.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if size > max_bytes:
        raise InputError(f"{where}: {size:,} bytes of settings; expected at most {max_bytes:,}")
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = BoundedConstructor
    try:
        found = yaml.load(source)
    except _MALFORMED as error:
        raise InputError(f"{where}: not YAML: {_problem(error)}") from None
    _refuse_unusual(found, where, max_values)
    return found


def yaml_value(value: object) -> str:
    """A setting's value as YAML on one line, which `parse_yaml` reads back; text, numbers, lists and keys with values.

    >>> yaml_value(None), yaml_value({"tau": 4.0}), yaml_value(["ce", "1"])
    ('null', '{tau: 4.0}', "[ce, '1']")
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = True, True, sys.maxsize
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keys in their order
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue().removesuffix("...\n").rstrip("\n")


def _problem(error: Exception) -> str:
    """Describe an error of the parser and its place in one line."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        return one_line(f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}")
    if isinstance(error, RecursionError):
        return f"more than {MAX_DEPTH} collections within each other"
    return one_line(error)


def _refuse_unusual(found: object, where: str, max_values: int) -> None:
    """Raise InputError for values that JSON lacks, and for too many or too deeply nested values."""
    waiting: list[tuple[str, object, int]] = [("", found, 0)]
    count = 0
    while waiting:
        key, value, depth = waiting.pop()
        count += 1
        if count > max_values or depth > MAX_DEPTH:
            raise InputError(
                f"{where}: {key[:60]}: more than {max_values:,} values, or {MAX_DEPTH} collections within each other; "
                "write them out without aliases"
            )
        if isinstance(value, dict):
            for name in value:
                if not _is_scalar(name):
                    raise InputError(
                        f"{where}: {_inner(key, shown(name))} is a key of type {_kind(name)}; expected text"
                    )
                if isinstance(name, int) and abs(name) >= 2**64:
                    raise InputError(f"{where}: {key}{' ' * bool(key)}has a key of more than 64 bits; expected text")
            waiting += [(_inner(key, str(name)), inner, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(_inner(key, str(i)), inner, depth + 1) for i, inner in enumerate(value)]
        elif isinstance(value, int) and abs(value) >= 2**64:
            raise InputError(f"{where}: {key}{' ' * bool(key)}is a number of more than 64 bits; expected a smaller one")
        elif not _is_scalar(value):
            raise InputError(
                f"{where}: {key}{' ' * bool(key)}is of type {_kind(value)}; "
                "expected text (in quotes), a number, true, false or null"
            )


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _inner(key: str, name: str) -> str:
    """The dotted key, shortened: a file may have a long key with many keys below it."""
    return f"{key[:200]}.{name[:60]}" if key else name[:60]


def _kind(value: object) -> str:
    return type(value).__name__
