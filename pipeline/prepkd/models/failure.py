"""Errors of somebody's model, its factory and its passes, in one line."""

import contextlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from prepkd.errors import InputError

CALLERS = (__file__, str(Path(__file__).with_name("factory.py")))


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
        raise InputError(f"{what} raised {cause(error)}") from error


def cause(error: Exception) -> str:
    """The error's type and first 300 characters, and the last place on the way to it that is in no library."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}{_place(error)}"


def _place(error: BaseException) -> str:
    """As " (net.py, line 7)"; empty if every place is in a library."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("<frozen ", *CALLERS, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
