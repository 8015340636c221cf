"""The scripts of experiments/, as modules."""

import importlib.util
from types import ModuleType

from commands import ROOT

EXPERIMENTS = ROOT / "experiments"


def script(name: str) -> ModuleType:
    """Import a script of experiments/ as a module."""
    found = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
