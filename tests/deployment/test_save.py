"""prepkd.save: arguments refused before anything is written, and models unwrapped from others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import elsewhere_files as files
import numpy as np
import prepkd
import pytest
import torch
from commands import invoke
from prepkd.errors import InputError
from prepkd.models import Normalised, Preprocessing
from prepkd.models.checkpoint import load_checkpoint, save_checkpoint
from torch import nn
from torch.optim.swa_utils import AveragedModel

HOW = Preprocessing((0.3,), (0.4,))
DATA = "data/digits.h5"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.digits(Path(DATA))


def student() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return prepkd.build_model("convnet4", 10, in_channels=1).eval()


def of_value(value: float) -> nn.Module:
    model = student()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = value
    return model


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": -3}, "size is -3; expected >= 1"),
        ({"size": 8.5}, "size is 8.5; expected a whole number"),
        ({"size": 60_000}, "size is 60000; expected <= 57344"),
        ({"seed": "x"}, "seed is 'x'; expected a whole number"),
        ({"seed": -1}, "seed is -1; expected >= 0"),
        ({"mean": ()}, "mean is (); expected at least 1 entry"),
        ({"std": (0.0,)}, "std is 0.0; expected > 0"),
        ({"mean": (float("nan"),)}, "mean is nan; expected a finite number"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "mean and std have 2 channels; the images of data/digits.h5 have 1"),
        ({"mean": 0.5}, "mean is 0.5; expected a list"),
        ({"name": "convnet44"}, "name is 'convnet44': unknown"),
        ({"name": 5}, "name is 5; expected text"),
        ({"model": student().state_dict()}, "the model is of type OrderedDict; expected a torch.nn.Module"),
        ({"model": of_value(float("nan"))}, "holds a value that is not finite; expected a trained model's weights"),
        ({"model": of_value(float("inf"))}, "holds a value that is not finite; expected a trained model's weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_argument_is_one_line_and_nothing_is_written(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as fault:
        whole: dict[str, Any] = {"model": student(), "name": "convnet4", "data": DATA} | given
        prepkd.save("mine", **whole)
    said = str(fault.value)
    assert said.startswith("mine: ") and says in said and "\n" not in said
    assert not Path("mine").exists()


def test_a_student_that_prepkd_trained_is_not_overwritten() -> None:
    prepkd.save("mine", student(), "convnet4", DATA)
    prepkd.save("mine", of_value(0.25), "convnet4", DATA)  # a folder that prepkd.save wrote may be overwritten
    model, card = load_checkpoint(Path("mine"))
    save_checkpoint(Path("mine"), model, card | {"training": {"epochs": 3}})
    before = {path: path.read_bytes() for path in Path("mine").iterdir()}
    with pytest.raises(InputError, match=r"^mine: holds a model that prepkd trained; save to another folder"):
        prepkd.save("mine", student(), "convnet4", DATA)
    assert {path: path.read_bytes() for path in Path("mine").iterdir()} == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("[]", "holds a list; expected a JSON object"),
        (" " * 2**24 + "{}", "16,777,218 bytes; expected at most 16,777,216"),
    ],
    ids=["cut", "nested", "list", "large"],
)
def test_a_card_that_cannot_be_read_is_not_overwritten(text: str, says: str) -> None:
    Path("mine").mkdir()
    Path("mine/model.json").write_text(text)
    with pytest.raises(InputError, match=rf"^mine/model\.json: {says}.*; remove it, or save to another folder"):
        prepkd.save("mine", student(), "convnet4", DATA)
    assert Path("mine/model.json").read_text() == text


def compiled(model: nn.Module) -> Any:
    return torch.compile(model)


def parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model)


def in_part(model: nn.Module) -> nn.Module:
    name, inner = next(iter(model.named_children()))
    setattr(model, name, compiled(inner))
    return model


WRAPPED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "parallel": parallel,
    "averaged": AveragedModel,
    "both": lambda model: compiled(parallel(model)),
    "part": in_part,
    "normalised": lambda model: parallel(Normalised(compiled(model), HOW)),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_model_within_another_is_taken_out(wrap: Callable[[nn.Module], nn.Module]) -> None:
    prepkd.save("plain", student(), "convnet4", DATA)
    prepkd.save("wrapped", wrap(student()), "convnet4", DATA)
    assert Path("wrapped/model.safetensors").read_bytes() == Path("plain/model.safetensors").read_bytes()


def test_numbers_of_numpy_are_numbers() -> None:
    prepkd.save("mine", student(), "convnet4", DATA, mean=(np.float32(0.5),), std=(1,))  # type: ignore[arg-type]
    assert prepkd.load("mine").model.preprocessing == Preprocessing((0.5,), (1.0,))


def test_inspect_does_not_say_that_nobody_taught_it() -> None:
    prepkd.save("mine", student(), "convnet4", DATA)
    said = " ".join(invoke("inspect", "mine").output.split())
    assert "distilled from not known: trained in a loop outside prepkd" in said
