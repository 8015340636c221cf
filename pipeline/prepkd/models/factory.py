"""A user's own model: import `package.module:factory` and call it."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from torch import nn

from prepkd.errors import InputError, one_line
from prepkd.models.user_errors import wrap_user_errors


def load_factory(name: str, kind: str = "model") -> Callable[..., object]:
    """Import the function or class named by `package.module:factory`; raises InputError if it can't be imported or called.

    `kind` is its kind in messages.
    """
    module_name, _, attribute = name.partition(":")
    said = f"{kind} {name!r}"
    with wrap_user_errors(f"{said}: the import of {module_name}"), _working_directory_importable():
        try:
            module = importlib.import_module(module_name)
        except (ImportError, SyntaxError) as error:
            raise InputError(f"{said}: can't import {module_name}: {one_line(error)}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        # A module without __file__ is often a folder of the same name, imported instead of the module.
        where = getattr(module, "__file__", None) or f"{module_name}, a folder without __init__.py"
        raise InputError(f"{said}: {where} has no {attribute!r}")
    if not callable(factory):
        raise InputError(f"{said}: {attribute} is of type {type(factory).__name__}; expected a function or class")
    return cast(Callable[..., object], factory)


def build_from_factory(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Call the factory; raises InputError for a wrong signature or a result that is no nn.Module."""
    factory, attribute = load_factory(name), name.partition(":")[2]
    call = f"{attribute}(num_classes={num_classes}, in_channels={in_channels})"
    with wrap_user_errors(f"model {name!r}: {call}"):
        model = factory(num_classes=num_classes, in_channels=in_channels)
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r}: {call} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


@contextlib.contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Put the working directory on sys.path, as `python -m` does and console scripts don't."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # The imported module may have changed sys.path itself.
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
