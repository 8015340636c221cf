"""A user's own model: import `package.module:factory` and call it."""

import contextlib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from torch import nn

from prepkd.errors import InputError


def load_factory(name: str) -> Callable[..., object]:
    """Import the function or class named by `package.module:factory`; raises InputError if it can't be imported or called."""
    module_name, _, attribute = name.partition(":")
    with users_code(f"model {name!r}: the import of {module_name}"), _working_directory_importable():
        try:
            module = importlib.import_module(module_name)
        except (ImportError, SyntaxError) as error:
            raise InputError(f"model {name!r}: can't import {module_name}: {' '.join(str(error).split())}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        # A module without __file__ is often a folder of the same name, imported instead of the module.
        where = getattr(module, "__file__", None) or f"{module_name}, a folder without __init__.py"
        raise InputError(f"model {name!r}: {where} has no {attribute!r}")
    if not callable(factory):
        raise InputError(
            f"model {name!r}: {attribute} is of type {type(factory).__name__}; expected a function or class"
        )
    return cast(Callable[..., object], factory)


def build_from_factory(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Call the factory; raises InputError for a wrong signature or a result that is no nn.Module."""
    factory, attribute = load_factory(name), name.partition(":")[2]
    call = f"{attribute}(num_classes={num_classes}, in_channels={in_channels})"
    with users_code(f"model {name!r}: {call}"):
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


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Run a user's code; any exception, that of `sys.exit` too, becomes an InputError of one line that begins with `what`."""
    try:
        yield
    except InputError:
        raise
    except SystemExit as error:  # it would end prepkd with this exit code, as if its work were done
        raise InputError(f"{what} called sys.exit({error.code!r}){_place(error)}") from error
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{what} raised {said}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The last line of the user's own files on the way to an error, as " (net.py, line 7)"."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("<frozen ", __file__, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
