"""Python and its packages: whether torch and torchvision fit together, by version and by CUDA build."""

import platform
import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

from prepkd.doctor.check import Check, error, ok
from prepkd.errors import one_line

PAIR = "reinstall both at once: pip install torch torchvision"


def python_version() -> Check:
    """The Python version and platform; always OK, since prepkd runs."""
    return ok("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def torch_pair() -> Check:
    """Whether torchvision was built for this torch: by its declared requirement, its CUDA version, and loading its operators."""
    name = "torch, torchvision"
    try:
        found = {one: version(one) for one in ("torch", "torchvision")}
        needs = wanted_torch(requires("torchvision") or [])
    except PackageNotFoundError as missing:
        return error(name, f"{missing.name} is not installed", PAIR)
    shown = f"{found['torch']} and {found['torchvision']}"
    if problem := pair_problem(found["torch"], needs) or _operators() or _cuda():
        return error(name, f"{shown}: {problem}", PAIR)
    return ok(name, shown)


def wanted_torch(requirements: list[str]) -> str | None:
    """The version of torch that a list of requirements pins; None without one.

    >>> wanted_torch(["numpy", "torch==2.12.0", 'gdown; extra == "x"'])
    '2.12.0'
    """
    pins = (re.match(r"torch\s*\(?==\s*([\w.]+)", one) for one in requirements)
    return next((pin[1] for pin in pins if pin), None)


def pair_problem(torch: str, wanted: str | None) -> str | None:
    """The reason why torchvision does not fit this torch, None if it fits; the build suffix after `+` is ignored.

    >>> pair_problem("2.12.0+cpu", "2.12.0"), pair_problem("2.11.0", "2.12.0")
    (None, 'this torchvision is made for torch 2.12.0')
    """
    same = wanted is None or torch.partition("+")[0] == wanted
    return None if same else f"this torchvision is made for torch {wanted}"


def _operators() -> str | None:
    try:
        import_module("torchvision.extension")._assert_has_ops()
        import_module("torchvision.models")
    except (ImportError, RuntimeError, OSError, AttributeError) as failure:
        return f"torchvision cannot be loaded ({one_line(failure, 200)})"
    return None


def _cuda() -> str | None:
    built = [cuda_version(getattr(import_module(f"{one}.version"), "cuda", None)) for one in ("torch", "torchvision")]
    return f"built for CUDA {built[0]} and {built[1]}" if all(built) and built[0] != built[1] else None


def cuda_version(stated: object) -> str | None:
    """The CUDA version that a package states: torch as text, torchvision also as 1000 times the major plus 10 times the minor.

    >>> cuda_version("13.2"), cuda_version(13020), cuda_version(None)
    ('13.2', '13.2', None)
    """
    if isinstance(stated, int):
        return f"{stated // 1000}.{stated % 1000 // 10}"
    return str(stated) if stated else None
