"""RepDistiller's and mdistiller's files: names, shapes and logits of every shared architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import third_party as theirs
import torch
import torchvision
from prepkd.errors import InputError
from prepkd.models import MODELS, build_model, load_weights
from prepkd.models.names import problem
from test_models_checkpoint import Bomb
from torch import Tensor, nn

IMAGES = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def refusal(path: Path, model: nn.Module | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(model or build_model("resnet8", 10), path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.double().eval()(IMAGES.double())


@pytest.mark.parametrize("name", theirs.MODELS)
def test_names_and_shapes_are_theirs(name: str) -> None:
    ours, table = theirs.MODELS[name]
    with torch.device("meta"):
        state = build_model(ours, 100).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == table(100)


def test_no_shared_architecture_is_left_out() -> None:
    own = {name for name in MODELS if name.startswith("convnet")} | {"wrn_28_10"}  # absent from both projects
    assert {ours for ours, _ in theirs.MODELS.values()} == set(MODELS) - own
    assert [problem(name) for name in MODELS] == [None] * len(MODELS)


@pytest.mark.parametrize("name", theirs.MODELS)
def test_a_file_of_theirs_gives_the_logits_of_theirs(name: str, tmp_path: Path) -> None:
    ours, table = theirs.MODELS[name]
    state = theirs.random_state(table(100))
    theirs.mdistiller_student(state, tmp_path / "student_best")
    model = build_model(ours, 100)
    assert load_weights(model, tmp_path / "student_best").form == "mdistiller"
    expected = theirs.forward(name, state, IMAGES)
    assert expected.std() > 0.1, "logits that tell nothing"
    torch.testing.assert_close(logits(model), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("file", theirs.FILES)
def test_every_form_of_file_loads_and_says_whose_it_is(file: str, tmp_path: Path) -> None:
    save, form = theirs.FILES[file]
    state = theirs.random_state(theirs.MODELS["resnet8"][1](100))
    save(state, tmp_path / file)
    model = build_model("resnet8", 100)
    assert load_weights(model, tmp_path / file).form == form
    found = model.state_dict()
    counted = file != "ckpt_epoch_240.pth"
    for key, value in state.items():
        wanted = value if counted or not key.endswith("num_batches_tracked") else torch.tensor(0)
        assert torch.equal(found[key], wanted), key
    expected = theirs.forward("resnet8", state, IMAGES)
    torch.testing.assert_close(logits(model), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_mdistillers_resnets_for_imagenet_are_torchvisions(name: str, tmp_path: Path) -> None:
    """Their blocks apply the ReLU first, which is equivalent; torchvision's old files without batch counters load too."""
    state = getattr(torchvision.models, name)(num_classes=7).state_dict()
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / f"{name}.pth", _use_new_zipfile_serialization=False)
    model = build_model(f"torchvision:{name}", 7)
    assert load_weights(model, tmp_path / f"{name}.pth").form == "plain"
    assert all(torch.equal(model.state_dict()[key], value) for key, value in kept.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    half = {
        key: v.to(dtype) if v.dtype == torch.float32 else v
        for key, v in build_model("convnet4", 5).state_dict().items()
    }
    torch.save({"model": half}, tmp_path / "half.pth")
    model = build_model("convnet4", 5)
    load_weights(model, tmp_path / "half.pth")
    for key, value in model.state_dict().items():
        assert value.dtype != dtype and torch.equal(value, half[key].to(value.dtype))


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    state = build_model("convnet4", 5).state_dict()
    torch.save({**state, "fc.weight": torch.ones(5, 8, dtype=torch.int8)}, tmp_path / "quantised.pth")
    message = refusal(tmp_path / "quantised.pth", build_model("convnet4", 5))
    assert message == "not this model's weights; 1 of whole numbers: fc.weight torch.int8"


def test_complex_numbers_are_no_weights(tmp_path: Path) -> None:
    state = build_model("convnet4", 5).state_dict()
    torch.save({**state, "fc.weight": torch.ones(5, 8, dtype=torch.complex64)}, tmp_path / "complex.pth")
    message = refusal(tmp_path / "complex.pth", build_model("convnet4", 5))
    assert message == "not this model's weights; 1 of complex numbers: fc.weight torch.complex64"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300], ids=["nan", "inf", "beyond float32"])
def test_a_value_that_is_not_finite_is_refused_and_nothing_changed(value: float, tmp_path: Path) -> None:
    model = build_model("convnet4", 5)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = {key: tensor.double() for key, tensor in build_model("convnet4", 5).state_dict().items()}
    for key in ("bn2.running_var", "fc.bias"):
        state[key][1] = value
    torch.save(state, tmp_path / "diverged.pth")
    message = refusal(tmp_path / "diverged.pth", model)
    assert message == "bn2.running_var holds a value that is not finite; expected a trained model's weights"
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("text", ["import torch\n", "hello", "(what", "."])
def test_a_text_is_no_file_of_torch_save(text: str, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text(text)
    assert refusal(tmp_path / "text.pth") == "not a weights file of torch.save, or damaged"


def test_a_batch_norm_lacks_its_counter_only_where_all_do(tmp_path: Path) -> None:
    state = build_model("convnet4", 5).state_dict()
    del state["bn2.num_batches_tracked"]
    torch.save(state, tmp_path / "damaged.pth")
    message = refusal(tmp_path / "damaged.pth", build_model("convnet4", 5))
    assert "1 missing: bn2.num_batches_tracked" in message


@pytest.mark.parametrize("file", ["ckpt_epoch_240.pth", "latest"])
def test_weights_of_another_model_are_named(file: str, tmp_path: Path) -> None:
    theirs.FILES[file][0](theirs.random_state(theirs.MODELS["resnet8x4"][1](20)), tmp_path / file)
    message = refusal(tmp_path / file, build_model("resnet8", 100))
    assert message.endswith("; 100% of it fits model resnet8x4 for 20 classes")
    assert "of another shape: conv1.weight (32, 3, 3, 3), the model's is (16, 3, 3, 3)" in message
    assert refusal(tmp_path / file, build_model("resnet8x4", 100)).endswith("for 20 classes")


def test_weights_of_no_model_of_the_zoo_are_not_guessed_at(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(3, 3)}, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").endswith("; 1 unexpected: a.weight")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"epoch": 240, "net": {"w": 1.0}, "accuracy": 79.4},
            "found other values under epoch, net, accuracy; closest to repdistiller's files with epoch, accuracy, model: "
            "model is missing",
        ),
        (
            {"opt": theirs.options(), "optimizer": theirs.optimizer()},
            "found other values under opt, optimizer; closest to repdistiller's files with opt, model: model is missing",
        ),
        ({"model": torch.ones(1), "epoch": 3}, "; 1 unexpected: model"),
        ({"model": {"w": np.float64(3)}}, "found other values under model"),
    ],
)
def test_a_file_of_neither_form_says_what_is_missing(content: Mapping[str, Any], expected: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").endswith(expected)


@pytest.mark.parametrize("place", ["opt", "epoch", "optimizer"])
def test_code_in_a_file_of_their_form_is_not_run(place: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "boom")
    content = {"opt": theirs.options(), "model": build_model("resnet8", 10).state_dict(), "optimizer": {}}
    content[place] = theirs.options(trial=bomb) if place == "opt" else bomb
    torch.save(content, tmp_path / "w.pth")
    assert "loading would run " in refusal(tmp_path / "w.pth")
    assert not (tmp_path / "boom").exists()


def test_numpy_s_numbers_are_passed_over_and_its_arrays_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = build_model("resnet8", 10).state_dict()
    torch.save({"model": state, "optimizer": theirs.optimizer()}, tmp_path / "w.pth")
    with monkeypatch.context() as patch:
        patch.setattr("numpy._core.multiarray.scalar", lambda *_: pytest.fail("NumPy's code ran"))
        load_weights(build_model("resnet8", 10), tmp_path / "w.pth")
    torch.save({"model": state, "history": np.ones(3)}, tmp_path / "w.pth")
    assert "loading would run numpy" in refusal(tmp_path / "w.pth")
