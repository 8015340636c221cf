"""Change params.yaml of the folder: python settings.py KEY=VALUE..."""

import sys
from pathlib import Path

from prepkd.validation import override
from ruamel.yaml import YAML

yaml, path = YAML(), Path("params.yaml")
params = yaml.load(path)
for change in sys.argv[1:]:
    override(params, change, where="settings")
yaml.dump(params, path)
