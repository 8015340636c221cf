"""The text of a small settings file, and the error message of loading a file with overrides."""

from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.project.params import load_params

SMALL = """\
prepare: {dataset: digits}
augment:
  - crop: {padding: 1}
teachers:
  large: {model: resnet8, epochs: 1}
  small: {model: convnet4, epochs: 1, weights: small.pth}
cache: {views: all}
distill: {teacher: large, student: convnet4, epochs: 1, method: kd, kd: {tau: 4.0}}
compare: {runs: [ce, kd, "kd,ce_weight=0"]}
"""


def error(path: Path, *overrides: str) -> str:
    """Load settings that must be refused; return the message, one line, without the file's name."""
    with pytest.raises(InputError) as caught:
        load_params(path, overrides)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, message
    for leaked in ("constrained", "literal[", "function-", "Input should", "pydantic", "Value error"):
        assert leaked not in message, message
    return message.removeprefix(f"{path}: ")
