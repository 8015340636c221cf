"""Files of weights: every common form, several sets in one file, other kinds of files, strange tensors."""

import ast
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT
from prepkd.errors import InputError
from prepkd.models import build_model, load_weights
from prepkd.models.weights import LoadedWeights
from prepkd.training.initial import loading_notes
from safetensors.torch import save_file
from small_training import settings as training_settings
from test_models_checkpoint import Bomb
from torch import Tensor, nn

CLASSES = 5


def model(seed: int = 0, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("convnet4", classes, in_channels=1)


STATE: dict[str, Tensor] = model(7).state_dict()
RAW: dict[str, Tensor] = model(8).state_dict()
PARAMETERS: dict[str, Tensor] = dict(model(8).named_parameters())


def under(prefix: str, state: Mapping[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def optimizer(kind: type[torch.optim.Optimizer] = torch.optim.Adam) -> dict[str, Any]:
    """Return the state of an optimizer after a step: its tensors have the shapes of weights."""
    net = model()
    made = kind(net.parameters(), lr=0.1)  # type: ignore[call-arg]
    net(torch.rand(2, 1, 8, 8)).sum().backward()
    made.step()
    return made.state_dict()


# Name -> a file's content, and the key of its weights.
FORMS: dict[str, tuple[Any, str]] = {
    "the state dict itself": (STATE, ""),
    "state_dict": ({"state_dict": STATE, "epoch": 3}, "state_dict"),
    "model": ({"model": STATE, "best": 3}, "model"),
    "PyTorch's tutorial": (
        {"epoch": 3, "model_state_dict": STATE, "optimizer_state_dict": optimizer(), "loss": torch.tensor(0.1)},
        "model_state_dict",
    ),
    "the tutorial behind DataParallel": (
        {"model_state_dict": under("module."), "optimizer_state_dict": optimizer(), "epoch": 3},
        "model_state_dict.module",
    ),
    "net": ({"net": STATE, "acc": 93.1, "epoch": 3}, "net"),
    "network, and a random state": ({"network": STATE, "rng": torch.get_rng_state()}, "network"),
    "torch.compile": (under("_orig_mod."), ""),
    "torch.compile behind DataParallel": (under("module._orig_mod."), "module"),
    "a compiled part": ({name.replace("bn1.", "bn1._orig_mod."): value for name, value in STATE.items()}, ""),
    "Lightning": (
        {"state_dict": under("model."), "optimizer_states": [optimizer()], "pytorch-lightning_version": "2.5"},
        "state_dict.model",
    ),
    "Lightning behind DataParallel": ({"state_dict": under("model.module.")}, "state_dict.model.module"),
    "Lightning with a metric and class weights": (
        {"state_dict": under("net.") | {"loss.weight": torch.ones(CLASSES), "train_acc.tp": torch.zeros(())}},
        "state_dict.net",
    ),
    "AveragedModel": ({"n_averaged": torch.tensor(3)} | under("module."), "module"),
    "two levels down": ({"checkpoint": {"epoch": 3, "weights": STATE}}, "checkpoint.weights"),
    "a prefix of one's own": (under("backbone.trunk."), "backbone.trunk"),
    "among other values": ({**STATE, "epoch": 3}, ""),
    "the only one of a list": ([STATE], "0"),
    "of several models": ({"models": [STATE], "lr": [0.1]}, "models.0"),
    "by the number of its fold": ({0: STATE}, "0"),
    "beside unnamed tensors": ((STATE, [torch.zeros(3)]), "0"),
    "one set under two keys": ({"state_dict": STATE, "best": STATE}, "state_dict"),
}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def loaded(
    path: Path, key: str | None = None, net: nn.Module | None = None, **options: Any
) -> tuple[LoadedWeights, nn.Module]:
    net = net or model()
    return load_weights(net, path, key, **options), net


def same(net: nn.Module, state: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def refusal(path: Path, key: str | None = None, net: nn.Module | None = None, **options: Any) -> str:
    net = net or model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(net, path, key, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert same(net, before), "changed by a refusal"
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_checkpoint_loads(form: str, tmp_path: Path) -> None:
    content, key = FORMS[form]
    found, net = loaded(save(content, tmp_path / "w.pth.tar"))
    assert same(net, STATE)
    assert (found.key, found.others, found.classifier) == (key, (), ())


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w"])
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    save_file(under("model."), tmp_path / name)
    assert same(loaded(tmp_path / name)[1], STATE)
    torch.save(STATE, tmp_path / name)
    assert same(loaded(tmp_path / name)[1], STATE)


SEVERAL: dict[str, tuple[Any, tuple[str, str]]] = {
    "timm": ({"state_dict": RAW, "state_dict_ema": STATE, "epoch": 3}, ("state_dict", "state_dict_ema")),
    "DeiT": ({"model": RAW, "model_ema": under("module."), "optimizer": optimizer()}, ("model", "model_ema.module")),
    "in one state dict": (
        {"state_dict": under("net.", RAW) | under("ema.module.")},
        ("state_dict.net", "state_dict.ema.module"),
    ),
    "a list": ([RAW, STATE], ("0", "1")),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_sets_none_is_taken_without_a_key(form: str, tmp_path: Path) -> None:
    content, (raw, average) = SEVERAL[form]
    path = save(content, tmp_path / "w.pt")
    assert refusal(path) == f"2 sets of weights fit the model: {raw}, {average}; set weights_key to one of them"
    for key, state in ((raw, RAW), (average, STATE), (average.removesuffix(".module"), STATE)):
        found, net = loaded(path, key)
        assert same(net, state)
        assert found.key == (raw if state is RAW else average)


def test_an_unknown_key_names_those_that_are_there(tmp_path: Path) -> None:
    path = save(SEVERAL["timm"][0], tmp_path / "w.pt")
    for key in ("ema", "state", "epoch"):
        assert refusal(path, key) == (
            f"weights_key is {key!r}, where no weights of this model are; there are some under state_dict, state_dict_ema"
        )


@pytest.mark.parametrize("name", ["ema", "shadow.params"])
def test_an_average_without_statistics_is_spoken_of(name: str, tmp_path: Path) -> None:
    path = save({"state_dict": RAW, name: PARAMETERS}, tmp_path / "w.pt")
    found, net = loaded(path)
    assert same(net, RAW) and found.others == (name,)
    assert loaded(path, "state_dict")[0].others == ()  # no note if the user chose the key
    assert "4 missing: bn1.running_mean" in refusal(path, name)


def test_an_average_without_names_is_spoken_of(tmp_path: Path) -> None:
    """torch_ema saves a list of parameters."""
    average = {"decay": 0.99, "num_updates": 3, "shadow_params": list(PARAMETERS.values()), "collected_params": None}
    path = save({"model": RAW, "ema": average}, tmp_path / "w.pt")
    found, net = loaded(path)
    assert same(net, RAW) and (found.key, found.others, found.unnamed) == ("model", (), ("ema.shadow_params",))
    note, *others = loading_notes(training_settings(weights=path), found, "student 'convnet4'")
    assert f"{path} also holds ema.shadow_params: tensors" in note and "can't be loaded" in note and not others
    assert loaded(path, "model")[0].unnamed == ()  # no note if the user chose the key
    assert "no weights of this model are; there are some under model" in refusal(path, "ema")
    fewer = average | {"shadow_params": list(PARAMETERS.values())[1:]}
    assert loaded(save({"model": RAW, "ema": fewer}, path))[0].unnamed == ()


def test_a_classifier_for_other_classes_is_left_out_only_if_training_follows(tmp_path: Path) -> None:
    path = save({"state_dict": model(7, classes=9).state_dict()}, tmp_path / "w.pt")
    assert "of another shape: fc.weight (9, 8), the model's is (5, 8)" in refusal(path)
    net = model()
    own = {name: value.clone() for name, value in net.state_dict().items()}
    found, net = loaded(path, net=net, classes=CLASSES)
    theirs = torch.load(path, weights_only=True)["state_dict"]
    assert found.classifier == ("fc.weight", "fc.bias")
    assert same(net, {name: own[name] if name.startswith("fc.") else theirs[name] for name in own})
    wider = build_model("convnet8", 9, in_channels=1).state_dict()
    assert "of another shape" in refusal(save(wider, tmp_path / "wider.pt"), classes=CLASSES)


def zipped(path: Path, *names: str, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, bytes(2**20))


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"), io.BytesIO())


def bomb(path: Path) -> None:
    """Write a compressed torch.save file: 4 MB of zeros in a few kB."""
    torch.save({"w": torch.zeros(2**20)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 10_000


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "TorchScript": (
        lambda path: zipped(path, "w/data.pkl", "w/constants.pkl", "w/code/__torch__.py"),
        "a TorchScript archive, which holds code; save its weights: torch.save(torch.jit.load(path).state_dict(), new_path)",
    ),
    "torch.export": (
        lambda path: zipped(path, "w/archive_format", "w/data/weights/model.pt"),
        "an archive of torch.export, which holds code; save its weights: ",
    ),
    "a zip of files": (lambda path: zipped(path, "a/resnet.pth", "a/readme"), "a zip archive, not a weights file of "),
    "a bomb": (bomb, "would unpack to more than its own size; "),
    "tar": (tarred, "a tar archive; unpack it and name the file of weights in it"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "a gzip archive; unpack it"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "an HDF5 file; save the weights with "),
    "LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "a pointer of Git LFS, not the file itself; run `git lfs pull`",
    ),
    "a page": (lambda path: path.write_text("<!DOCTYPE html>\n<html>"), "a web page, not the file itself; download it"),
    "a folder": (Path.mkdir, "a folder; expected a file of weights, such as one of those in it"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named_with_the_way_out(kind: str, tmp_path: Path) -> None:
    write, message = KINDS[kind]
    write(tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith(message)


WEIGHT = (4, 1, 3, 3)  # the shape of conv1.weight
STRANGE: dict[str, tuple[Callable[[], Tensor], str]] = {
    "sparse": (lambda: torch.ones(WEIGHT).to_sparse(), "1 not dense: conv1.weight torch.sparse_coo"),
    "sparse and huge": (
        lambda: torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (2**60,)),
        "1 of another shape: conv1.weight (1152921504606846976,)",
    ),
    "meta": (lambda: torch.empty(WEIGHT, device="meta"), "1 without values: conv1.weight on device meta"),
    "expanded and huge": (lambda: torch.ones(1).expand(2**50), "1 of another shape: conv1.weight (1125899906842624,)"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(WEIGHT), 0.1, 0, torch.quint8),
        "1 quantised: conv1.weight torch.quint8",
    ),
    "float8": (lambda: torch.ones(WEIGHT).to(torch.float8_e4m3fn), "1 quantised: conv1.weight torch.float8_e4m3fn"),
    "sub-byte floats": (
        lambda: torch.zeros(WEIGHT, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        "1 quantised: conv1.weight torch.float4_e2m1fn_x2",
    ),
    "sub-byte integers": (
        lambda: torch.zeros(WEIGHT, dtype=torch.uint8).view(torch.bits4x2),
        "1 quantised: conv1.weight torch.bits4x2",
    ),
    "whole": (lambda: torch.ones(WEIGHT, dtype=torch.uint16), "1 of whole numbers: conv1.weight torch.uint16"),
    "not finite in float32": (
        lambda: torch.full(WEIGHT, 1e300, dtype=torch.float64),
        "conv1.weight holds a value that",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", STRANGE)
def test_a_tensor_that_is_no_plain_weight_is_refused_by_its_description(kind: str, tmp_path: Path) -> None:
    make, message = STRANGE[kind]
    assert message in refusal(save({**STATE, "conv1.weight": make()}, tmp_path / "w.pt"))


def test_a_counter_of_sub_byte_numbers_is_refused_too(tmp_path: Path) -> None:
    counter = torch.zeros((), dtype=torch.uint8).view(torch.bits4x2)
    message = refusal(save({**STATE, "bn1.num_batches_tracked": counter}, tmp_path / "w.pt"))
    assert "1 quantised: bn1.num_batches_tracked torch.bits4x2" in message


def test_an_expanded_tensor_of_the_right_shape_loads(tmp_path: Path) -> None:
    expanded = torch.ones(1, 1, 1, 1).expand(WEIGHT)
    _, net = loaded(save({**STATE, "conv1.weight": expanded}, tmp_path / "w.pt"))
    assert torch.equal(net.get_parameter("conv1.weight"), torch.ones(WEIGHT))


def test_mappings_that_hold_one_another_end(tmp_path: Path) -> None:
    """Each level holds the level below under 40 keys: following every path would take 40^20 steps."""
    level: dict[str, Any] = {"a": torch.ones(2, 2)}
    for _ in range(20):
        level = {f"k{i}": level for i in range(40)}
    assert refusal(save(level | {"model": STATE, "model_ema": RAW}, tmp_path / "w.pt")).startswith("2 sets of weights")


def test_nothing_loads_more_than_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every torch.load passes weights_only=True explicitly: the environment can override only the default."""
    calls = [
        (path.name, node)
        for folder in ("pipeline/prepkd", "stages")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(calls) >= 2
    for name, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given["weights_only"] == "True", name
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = save({"model": STATE, "bomb": Bomb(tmp_path / "boom")}, tmp_path / "w.pt")
    assert "loading would run " in refusal(path)
    assert not (tmp_path / "boom").exists()
