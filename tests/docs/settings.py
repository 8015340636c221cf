"""Change params.yaml in the working directory: python settings.py KEY=VALUE..., or YAML on standard input."""

import sys
from pathlib import Path

from prepkd.settings.validation import override
from ruamel.yaml import YAML


def merge(settings: dict, changes: dict) -> None:
    """Replace the given keys, section by section."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = value


yaml, path = YAML(), Path("params.yaml")
params = yaml.load(path)
if not sys.argv[1:]:
    merge(params, YAML(typ="safe").load(sys.stdin))
for change in sys.argv[1:]:
    override(params, change, where="settings")
yaml.dump(params, path)
