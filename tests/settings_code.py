"""Find the code that a stage runs through `params`, which its imports don't show: it imports only the settings' schema.

DVC follows the values of settings. The methods of their sections are code that decides results, so a stage depends on them.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import get_args

from prepkd.project import params as schema
from prepkd.project.params import Params
from prepkd.settings.section import Section

READERS = {"read_params", "load_params"}


@cache
def modules_through_params(path: Path) -> set[str]:
    """Modules of the library that a file uses through values of type `Params`.

    Using a whole section counts as using its classes' modules, a method of a section as the module that declares it, and a
    field of a section as none. Using a method of `Params` counts as the modules of the functions that it calls.
    """
    tree = ast.parse(path.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names = set(_names(tree))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_params(node.value, names):
            if node.attr in Params.model_fields:
                found |= _of_section(node, parents, _sections(Params.model_fields[node.attr].annotation))
            else:
                found |= _of_member(node.attr)
    return {module for module in found if module.startswith("prepkd.") and module != schema.__name__}


def _names(tree: ast.AST) -> Iterator[str]:
    """The names of the arguments and variables that hold `Params`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation and "Params" in ast.unparse(node.annotation).split(" | "):
            yield node.arg
        if isinstance(node, ast.Assign) and _is_params(node.value, ()):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_params(node: ast.AST, names: Iterable[str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in READERS
    return isinstance(node, ast.Name) and node.id in names


def _sections(annotation: object) -> list[type[Section]]:
    """The sections named in an annotation, also within lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _of_section(node: ast.AST, parents: dict[ast.AST, ast.AST], sections: list[type[Section]]) -> set[str]:
    bases = [base for section in sections for base in section.__mro__ if issubclass(base, Section)]
    parent = parents[node]
    if isinstance(parent, ast.Attribute):
        fields = [section.model_fields[parent.attr] for section in sections if parent.attr in section.model_fields]
        if fields:
            return _of_section(parent, parents, [one for field in fields for one in _sections(field.annotation)])
        if declaring := [base for base in bases if parent.attr in vars(base)]:
            return {base.__module__ for base in declaring}
    return {base.__module__ for base in bases}


def _of_member(name: str) -> set[str]:
    """Modules of the functions and classes that a member of `Params` calls, directly or through other members."""
    found, waiting, seen = set(), [name], set()
    while waiting:
        member = inspect.getattr_static(Params, waiting.pop())
        for used in _used(_code(member)) - seen:
            seen.add(used)
            if used not in Params.model_fields and used in vars(Params):
                waiting.append(used)
            elif (value := vars(schema).get(used)) is not None:
                found.add(getattr(value, "__module__", None) or value.__name__)
    return found


def _code(member: object) -> CodeType:
    function = member.fget if isinstance(member, property) else member
    return inspect.unwrap(getattr(function, "__func__", function)).__code__  # type: ignore[arg-type,union-attr]


def _used(code: CodeType) -> set[str]:
    """Names of the globals and attributes used in a function, nested functions included."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return {*code.co_names}.union(*map(_used, inner))
