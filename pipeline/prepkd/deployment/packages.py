"""The optional packages of the extra `export`."""

from importlib.util import find_spec

from prepkd.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def need_packages(*names: str) -> None:
    """Raise InputError, with the command to install them, unless all of these packages are installed."""
    if missing := [name for name in names or PACKAGES if find_spec(name) is None]:
        raise InputError(f"{', '.join(missing)} not installed; run `pip install 'prepkd[export]'`")
