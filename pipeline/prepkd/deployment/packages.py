"""The packages of the extra `export`, which are optional."""

from importlib.util import find_spec

from prepkd.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def need_packages(*names: str) -> None:
    """Raise InputError, with the command that installs them, unless all of these packages are there."""
    if missing := [name for name in names or PACKAGES if find_spec(name) is None]:
        raise InputError(f"{', '.join(missing)} not installed; run `pip install 'prepkd[export]'`")
