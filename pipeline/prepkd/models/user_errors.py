"""Errors of a user's model, its factory and its passes, in one line."""

import contextlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from prepkd.errors import InputError

OWN = str(Path(__file__).parents[1])  # prepkd's code, which calls the user's


@contextlib.contextmanager
def wrap_user_errors(what: str, said: str = "raised", advice: str = "") -> Iterator[None]:
    """Run a user's code; anything that it raises, `sys.exit` too, becomes an InputError of one line: `what`, `said`, the error.

    Ctrl-C and the signals that end prepkd pass through.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except SystemExit as error:  # it would end prepkd with this exit code, as if its work were done
        raise InputError(f"{what} called sys.exit({error.code!r}){place(error)}") from error
    except BaseException as error:  # a Rust library's panic and GeneratorExit are no Exceptions
        raise InputError(f"{what} {said} {_cause(error)}{advice}") from error


def _cause(error: BaseException) -> str:
    """Return the error's type, its first 300 characters, and the innermost frame of the user's code."""
    try:
        text = " ".join(str(error).split())[:300]
    except Exception as broken:  # noqa: BLE001 - their __str__ is their code, too
        text = f"(its message can't be shown: {type(broken).__name__})"
    return f"{type(error).__name__}: {text}{place(error)}"


def place(error: BaseException) -> str:
    """Return the innermost frame of the user's code as " (net.py, line 7)"; empty if all are in libraries or prepkd."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("<frozen ", OWN, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
