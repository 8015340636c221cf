"""Why a model's forward or backward pass failed, in one line."""

import traceback
from pathlib import Path

import torch

TORCH = str(Path(torch.__file__).parent)


def cause(error: Exception) -> str:
    """The error's type and first 300 characters, and the last place in it that is not torch's."""
    text = " ".join(str(error).split())[:300]
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(TORCH)]
    where = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {text}{where}"
