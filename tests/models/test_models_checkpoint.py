"""Checkpoints: exact round trips, equal bytes, errors for files that don't match."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models import Normalised, build_model, load_card, load_checkpoint, load_weights, save_checkpoint
from prepkd.models.checkpoint import write_card
from prepkd.models.weight_claims import MAX_CARD_BYTES
from prepkd.training.finished import finished_card
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

CARD = {"model": "convnet4", "num_classes": 5, "in_channels": 2, "epochs": 3, "data": {"dataset": "digits"}}
PREPROCESSING = Preprocessing(mean=(0.1, 0.4914), std=(0.3, 0.2023))
FILES = ("model.safetensors", "model.json")


def example(seed: int = 0) -> Normalised:
    torch.manual_seed(seed)
    model = Normalised(build_model("convnet4", 5, in_channels=2), PREPROCESSING)
    model(torch.rand(4, 2, 8, 8))  # moves the batch norms' statistics
    return model


def saved(folder: Path, **changes: Any) -> Path:
    save_checkpoint(folder, example(), {**CARD, **changes})
    return folder


def read(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def refusal(function: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model = example().eval()
    save_checkpoint(tmp_path / "new" / "folder", model, CARD)
    loaded, card = load_checkpoint(tmp_path / "new" / "folder")
    pixels = torch.rand(3, 2, 8, 8)
    assert torch.equal(loaded(pixels), model(pixels))
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert loaded.preprocessing == PREPROCESSING
    assert not loaded.training
    assert {key: card[key] for key in CARD} == CARD
    assert card == load_card(tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(FILES)


def test_what_is_loaded_saves_to_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    model, card = load_checkpoint(tmp_path / "a")
    save_checkpoint(tmp_path / "b", model, card)
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_another_process_and_folder_give_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "here")
    script = "import sys, pathlib, test_models_checkpoint as t; t.saved(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script, str(tmp_path / "elsewhere" / "deep")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    assert read(tmp_path / "here") == read(tmp_path / "elsewhere" / "deep")
    with safe_open(tmp_path / "here" / "model.safetensors", "pt") as file:
        assert list(file.metadata()) == ["prepkd"]


def test_channels_last_saves_to_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "plain")
    model = example().to(memory_format=torch.channels_last)
    assert not model.body.get_parameter("conv2.weight").is_contiguous()
    save_checkpoint(tmp_path / "channels-last", model, CARD)
    assert read(tmp_path / "plain") == read(tmp_path / "channels-last")


def test_tied_weights_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from torch import nn\n"
        "def tied(num_classes, in_channels):\n"
        "    a, b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "    b.weight = a.weight\n"
        "    return nn.Sequential(a, b)\n"
    )
    (tmp_path / "checkpoint_tied.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    card = {"model": "checkpoint_tied:tied", "num_classes": 4, "in_channels": 2}
    body = build_model("checkpoint_tied:tied", 4, in_channels=2)
    save_checkpoint(tmp_path / "c", Normalised(body, PREPROCESSING), card)
    loaded, _ = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded.body.get_parameter("1.weight"), body.get_parameter("0.weight"))


def test_normalisation_is_the_first_step() -> None:
    model = Normalised(nn.Identity(), PREPROCESSING)
    pixels = torch.rand(2, 2, 3, 3)
    expected = torch.stack([(pixels[:, 0] - 0.1) / 0.3, (pixels[:, 1] - 0.4914) / 0.2023], dim=1)
    torch.testing.assert_close(model(pixels), expected)
    assert model.state_dict() == {}
    assert refusal(model, torch.rand(2, 1, 3, 3)) == "images have 1 channels; the model takes 2"


@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.5,), (0.1, 0.1)), ((0.5,), (0.0,)), ((float("nan"),), (1.0,))])
def test_preprocessing_that_makes_no_sense_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert "expected one finite number per channel in each, std > 0" in refusal(Preprocessing, mean, std)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    saved(tmp_path)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_checkpoint(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    hint = "run `prepkd train-teacher big`"
    for function in (load_checkpoint, load_card):
        assert refusal(function, tmp_path, hint=hint) == f"{tmp_path / 'model.json'}: no such file; {hint}"
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert refusal(load_checkpoint, tmp_path, hint=hint) == f"{tmp_path / 'model.safetensors'}: no such file; {hint}"


def test_tampered_weights_are_refused_with_both_values(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["fc.bias"][0] = torch.nextafter(state["fc.bias"][0], torch.tensor(9.0))  # one bit in the last place
    save_file(state, path, metadata={"prepkd": "{}"})
    message = refusal(load_checkpoint, tmp_path, hint="run it again")
    saved(tmp_path / "true")
    fingerprint = load_card(tmp_path / "true")["weights_fingerprint"]
    assert f"weights_fingerprint is {fingerprint} in model.json, but model.safetensors has " in message
    assert message.endswith("; run it again")


def test_weights_of_another_model_beside_a_card_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    save_checkpoint(tmp_path / "other", example(seed=1), CARD)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    assert "weights_fingerprint is" in refusal(load_checkpoint, tmp_path)


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_truncated_weights_are_refused(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert f"{path}: not a whole safetensors file: " in refusal(load_checkpoint, tmp_path)
    assert f"{path}: not a whole safetensors file: " in refusal(load_weights, example().body, path)


def test_a_changed_architecture_is_named(tmp_path: Path) -> None:
    saved(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    for key, value, expected in [
        (
            "num_classes",
            6,
            "2 of another shape: fc.weight (5, 8), the model's is (6, 8), fc.bias (5,), the model's is (6,)",
        ),
        (
            "model",
            "resnet8",
            "missing: layer1.0.conv1.weight, layer1.0.bn1.weight, layer1.0.bn1.bias, ...; 6 unexpected: ",
        ),
        ("model", "resnet9", "model 'resnet9': unknown; did you mean resnet"),
    ]:
        write_card(tmp_path, {**card, key: value})
        assert expected in refusal(load_checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format": ', "not JSON: "),
        ("\xff", "not JSON: "),
        ("[]", "holds a list; expected a JSON object; run "),
        ("[" * 100_000, "not JSON: "),
        ('{"format": NaN}', "not JSON compliant"),
        ("{}", "format is None; expected 'prepkd-checkpoint-2'"),
        ('{"format": "prepkd-checkpoint-1"}', "format is 'prepkd-checkpoint-1'; expected 'prepkd-checkpoint-2'; run "),
        ('{"format": "prepkd-checkpoint-2"}', "expected None; run `prepkd train-teacher`"),
    ],
    ids=str,
)
def test_a_damaged_card_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "model.json").write_bytes(text.encode("latin-1"))
    message = refusal(load_card, tmp_path)
    assert message.startswith(f"{tmp_path / 'model.json'}: ") and expected in message


def test_a_card_of_any_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"training": {}}' + " " * MAX_CARD_BYTES)
    size = f"{path.stat().st_size:,}"
    assert refusal(load_card, tmp_path).startswith(f"{path}: {size} bytes; expected at most 16,777,216; run ")
    assert finished_card(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_damaged_card_is_no_finished_work(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    assert finished_card(tmp_path) == {}


def test_a_card_without_the_keys_of_a_model_is_refused(tmp_path: Path) -> None:
    write_card(tmp_path, {"format": "prepkd-checkpoint-2"})
    assert "model is None; expected str" in refusal(load_card, tmp_path)


@pytest.mark.parametrize("key", ["inputs", "training"])
def test_inputs_and_settings_in_a_card_are_objects(tmp_path: Path, key: str) -> None:
    card = load_card(saved(tmp_path, **{key: {}}))
    write_card(tmp_path, card | {key: [1]})
    assert refusal(load_card, tmp_path) == f"{tmp_path / 'model.json'}: {key} is [1]; expected dict"


def test_every_bit_of_a_card_counts(tmp_path: Path) -> None:
    """A flipped bit is refused, or changes nothing that is read."""
    path, refusals = saved(tmp_path, class_names=["a", "b", "c", "d", "e"]) / "model.json", 0
    card, whole = load_card(tmp_path), path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = load_card(tmp_path, "train again")
        except InputError as error:
            refusals += 1
            assert (
                str(error).startswith(f"{path}: ") and str(error).endswith("; train again") and "\n" not in str(error)
            )
        else:
            assert found == card
    assert refusals > 0.95 * len(whole)


@pytest.mark.parametrize(("old", "new"), [("0.2023", "0.2123"), ("0.4914", "0.4814"), ('"digits"', '"cifar"')])
def test_a_changed_digit_of_a_card_is_refused(tmp_path: Path, old: str, new: str) -> None:
    """The preprocessing affects accuracy, and only the card's own checksum covers it."""
    path = saved(tmp_path) / "model.json"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    for function in (load_card, load_checkpoint):
        assert refusal(function, tmp_path, hint="train again").startswith(f"{path}: damaged: its sha256 is ")


def test_a_card_that_could_not_be_loaded_costs_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    before = read(tmp_path)
    card: dict[str, Any] = dict(CARD)
    del card["num_classes"]
    assert refusal(save_checkpoint, tmp_path, example(1), card) == "card: num_classes is None; expected int"
    assert "preprocessing.mean has 2 channels; in_channels is 3" in refusal(
        save_checkpoint, tmp_path, example(1), {**CARD, "in_channels": 3}
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(tmp_path, example(1), {**CARD, "loss": float("nan")})
    assert read(tmp_path) == before


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_weights_load_however_they_are_wrapped(tmp_path: Path, name: str, wrapper: str | None, prefix: str) -> None:
    source, target = example(0).body, example(1).body
    state: Any = {prefix + key: value for key, value in source.state_dict().items()}
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, tmp_path / name)
    assert not torch.equal(target.get_parameter("fc.weight"), source.get_parameter("fc.weight"))
    load_weights(target, tmp_path / name)
    loaded = target.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())


def test_a_model_whose_own_names_begin_with_module(tmp_path: Path) -> None:
    model = nn.Module()
    model.module = nn.Linear(2, 2)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")


class Bomb:
    """An object that creates a folder if its pickle is executed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.pt"
    content = {"state_dict": example().body.state_dict(), "bomb": Bomb(tmp_path / "boom")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(load_weights, example().body, path)
    assert message.startswith(f"{path}: loading would run ") and "mkdir, refused; save tensors only: " in message
    assert not (tmp_path / "boom").exists()
    torch.load(path, weights_only=False)  # proves that the bomb works
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.25, 0.5, 0.9, 0.999])
def test_a_truncated_torch_file_is_refused(tmp_path: Path, share: float, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save(example().body.state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refusal(load_weights, example().body, path).startswith(f"{path}: not a w")


def test_a_damaged_torch_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(example().body.state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for at in range(0, 400, 7):  # the header and the pickle's opcodes, where a flipped bit can raise any error
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            load_weights(example().body, path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    body = example(1).body
    before = {key: value.clone() for key, value in body.state_dict().items()}
    state = example(0).body.state_dict()
    torch.save({**{k: v for k, v in state.items() if k != "bn1.bias"}, "extra": torch.ones(1)}, path)
    assert (
        refusal(load_weights, body, path)
        == f"{path}: not this model's weights; 1 missing: bn1.bias; 1 unexpected: extra"
    )
    torch.save({**state, "fc.bias": torch.ones(3)}, path)
    assert "1 of another shape: fc.bias (3,), the model's is (5,)" in refusal(load_weights, body, path)
    assert all(torch.equal(before[key], value) for key, value in body.state_dict().items())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "holds list; expected a state dict, alone or under a key such as state_dict"),
        ({}, "holds dict; expected a state dict, alone or under a key such as state_dict"),
        ({"lr": 0.1, "step": 3}, "expected a state dict of tensors; found other values under lr, step"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, expected: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert refusal(load_weights, example().body, tmp_path / "w.pt") == f"{tmp_path / 'w.pt'}: {expected}"


def test_a_weights_file_is_missing_or_of_an_unknown_kind(tmp_path: Path) -> None:
    body = example().body
    assert (
        refusal(load_weights, body, tmp_path / "w.pt")
        == f"{tmp_path / 'w.pt'}: no such file; expected a model's weights"
    )
    (tmp_path / "w.bin").write_bytes(b"x")
    assert refusal(load_weights, body, tmp_path / "w.bin").startswith(f"{tmp_path / 'w.bin'}: not a w")
