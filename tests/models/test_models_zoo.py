"""The zoo: sizes, values against independent code, errors for wrong names."""

import doctest
import importlib
import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from prepkd.errors import InputError
from prepkd.models import MODELS, build_model
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

# As printed in the tables and code of the distillation literature, for 100 classes.
PUBLISHED = {
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
}


def expected_parameters(name: str, classes: int, channels: int) -> int:
    """Compute a model's size from its description: k*k*in*out per convolution, 2 * width per batch norm."""
    if name.startswith("convnet"):
        w = int(name.removeprefix("convnet"))
        return 9 * channels * w + 2 * w + 9 * w * 2 * w + 2 * 2 * w + (2 * w + 1) * classes
    if name.startswith("wrn"):
        depth, factor = map(int, name.split("_")[1:])
        blocks, widths = (depth - 4) // 6, [16, 16 * factor, 32 * factor, 64 * factor]
        total = 9 * channels * 16 + 2 * widths[3]
        for before, after in pairwise(widths):
            first = 2 * before + 9 * before * after + 2 * after + 9 * after * after
            shortcut = before * after if before != after else 0
            total += first + shortcut + (blocks - 1) * (18 * after * after + 4 * after)
        return total + (widths[3] + 1) * classes
    depth = int(name.removeprefix("resnet").removesuffix("x4"))
    blocks, widths = (depth - 2) // 6, [32, 64, 128, 256] if name.endswith("x4") else [16, 16, 32, 64]
    total = 9 * channels * widths[0] + 2 * widths[0]
    for before, after in pairwise(widths):
        first = 9 * before * after + 9 * after * after + 4 * after
        shortcut = before * after + 2 * after if before != after else 0
        total += first + shortcut + (blocks - 1) * (18 * after * after + 4 * after)
    return total + (widths[3] + 1) * classes


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


DESCRIBED = [
    *(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)),
    *("resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", "wrn_28_10"),
    *(f"convnet{width}" for width in (4, 8, 16, 32, 64)),
]


def test_every_model_has_a_test_of_its_size() -> None:
    from test_models_literature import SIZES

    assert {*DESCRIBED, *SIZES} == set(MODELS)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_model_has_the_size_its_description_says(name: str) -> None:
    assert parameters(build_model(name, 100)) == expected_parameters(name, 100, 3)
    if name in PUBLISHED:
        assert expected_parameters(name, 100, 3) == PUBLISHED[name]
    if name not in ("resnet110", "wrn_28_10"):  # slow to build
        assert parameters(build_model(name, 10, in_channels=1)) == expected_parameters(name, 10, 1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "convnet4"])
def test_any_image_size_gives_logits(name: str, shape: tuple[int, int, int]) -> None:
    model = build_model(name, 7, in_channels=shape[0])
    logits = model(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def lived_in(name: str) -> nn.Module:
    """Build a float64 model with batch norms away from their initial values, so that skipping one changes the logits."""
    torch.manual_seed(0)
    model = build_model(name, 10).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model


@pytest.mark.parametrize("name", ["resnet14", "resnet8x4"])
def test_resnet_gives_the_values_of_torchvision_blocks(name: str) -> None:
    model = lived_in(name)
    x = image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    x = functional.relu(model.bn1(model.conv1(x)))
    for stride, layer in zip((1, 2, 2), (model.layer1, model.layer2, model.layer3), strict=True):
        for index, block in enumerate(layer):
            before, after = x.shape[1], block.conv2.out_channels
            step = stride if index == 0 else 1
            shortcut = None
            if step != 1 or before != after:
                shortcut = nn.Sequential(nn.Conv2d(before, after, 1, step, bias=False), nn.BatchNorm2d(after))
            other = TorchvisionBlock(before, after, step, shortcut).double().eval()
            other.load_state_dict(block.state_dict())
            x = other(x)
    assert x.shape[2:] == (4, 4)
    logits = functional.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1), model.fc.weight, model.fc.bias)
    torch.testing.assert_close(model(image), logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "blocks", "factor"), [("wrn_16_1", 2, 1), ("wrn_16_2", 2, 2)])
def test_wide_resnet_gives_the_values_of_its_equations(name: str, blocks: int, factor: int) -> None:
    model = lived_in(name)
    state = model.state_dict()

    def norm_relu(x: Tensor, at: str) -> Tensor:
        mean, var, scale, shift = (
            state[f"{at}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / torch.sqrt(var + 1e-5) * scale + shift).clamp(min=0)

    x = image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    x = functional.conv2d(x, state["conv1.weight"], padding=1)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        for index in range(blocks):
            at = f"block{stage}.layer.{index}"
            step = stride if index == 0 else 1
            active = norm_relu(x, f"{at}.bn1")
            residual = functional.conv2d(active, state[f"{at}.conv1.weight"], stride=step, padding=1)
            residual = functional.conv2d(norm_relu(residual, f"{at}.bn2"), state[f"{at}.conv2.weight"], padding=1)
            if index == 0 and (stage > 1 or factor > 1):
                x = functional.conv2d(active, state[f"{at}.convShortcut.weight"], stride=step)
            x = x + residual
    x = norm_relu(x, "bn1").mean(dim=(2, 3))
    logits = x @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(model(image), logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "convnet64"])
def test_initialisation_is_kaiming_fan_out(name: str) -> None:
    torch.manual_seed(0)
    for label, module in build_model(name, 10).named_modules():
        if isinstance(module, nn.Conv2d):
            variance = 2 / (module.out_channels * module.kernel_size[0] * module.kernel_size[1])
            # The variance of n normal draws has a relative standard deviation of sqrt(2 / n); five of these.
            tolerance = 5 * math.sqrt(2 / module.weight.numel())
            assert module.weight.var().item() == pytest.approx(variance, rel=tolerance), label
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), label


@pytest.mark.parametrize("name", ["build", "features", "names"])
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"prepkd.models.{name}"))
    assert tried and not failed


def test_a_seed_fixes_the_weights() -> None:
    models = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        models.append(build_model("resnet8", 10).state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    assert not torch.equal(models[0]["conv1.weight"], models[2]["conv1.weight"])


def test_unknown_name_is_guessed_and_the_known_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        build_model("resnet8x5", 10)
    assert str(caught.value).startswith("model 'resnet8x5': unknown; did you mean resnet8x4? known: resnet8, resnet14,")
    assert str(caught.value).endswith("convnet64, torchvision:NAME, timm:NAME, or package.module:factory")
    with pytest.raises(InputError, match=r"^model 'zebra': unknown; known: resnet8,"):
        build_model("zebra", 10)


USER_MODULE = """
from torch import nn
import zoo_helper

def tiny(num_classes, in_channels):
    model = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 4, num_classes))
    model.helper = zoo_helper.NAME
    return model

def positional(classes):
    return nn.Identity()

def wrong(num_classes, in_channels):
    return "a string"

def divides(num_classes, in_channels):
    return nn.Linear(1 // 0, 2)

def leaves(num_classes, in_channels):
    raise SystemExit(0)

NUMBER = 3
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "zoo_user.py").write_text(USER_MODULE)
    (tmp_path / "zoo_helper.py").write_text("NAME = 'helper'\n")
    (tmp_path / "zoo_broken.py").write_text("def f(:\n")
    (tmp_path / "zoo_needy.py").write_text("import no_such_package_for_prepkd\n")
    (tmp_path / "zoo_leaves.py").write_text("import sys\n\nsys.exit(0)\n")
    (tmp_path / "zoo_fails.py").write_text("import json\n\n\njson.loads('{')\n")
    (tmp_path / "zoo_indirect.py").write_text("import zoo_leaves\n")
    (tmp_path / "zoo_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    # A console script has neither '' nor the working directory on its path.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    for name in (path.stem for path in tmp_path.iterdir()):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_users_factory_in_the_working_directory(user_module: Path) -> None:
    before = list(sys.path)
    model = build_model("zoo_user:tiny", 5, in_channels=2)
    assert model(torch.rand(3, 2, 2, 2)).shape == (3, 5)
    assert model.helper == "helper"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo_absent:f", "model 'zoo_absent:f': can't import zoo_absent: No module named 'zoo_absent'"),
        ("zoo_needy:f", "can't import zoo_needy: No module named 'no_such_package_for_prepkd'"),
        ("zoo_broken:f", "can't import zoo_broken: invalid syntax (zoo_broken.py, line 1)"),
        ("zoo_user:tinny", "zoo_user.py has no 'tinny'"),
        ("zoo_folder:f", "zoo_folder, a folder without __init__.py has no 'f'"),
        ("zoo_user:NUMBER", "NUMBER is of type int; expected a function or class"),
        ("zoo_user:wrong", "wrong(num_classes=10, in_channels=3) returned str; expected a torch.nn.Module"),
        (
            "zoo_user:positional",
            "model 'zoo_user:positional': positional(num_classes=10, in_channels=3) raised TypeError: "
            "positional() got an unexpected keyword argument 'num_classes'",
        ),
        ("zoo_user:divides", "ZeroDivisionError: integer division or modulo by zero (zoo_user.py, line 17)"),
        (
            "zoo_user:leaves",
            "'zoo_user:leaves': leaves(num_classes=10, in_channels=3) called sys.exit(0) (zoo_user.py, line 20)",
        ),
        ("zoo_leaves:f", "model 'zoo_leaves:f': the import of zoo_leaves called sys.exit(0) (zoo_leaves.py, line 3)"),
        ("zoo_indirect:f", "the import of zoo_indirect called sys.exit(0) (zoo_leaves.py, line 3)"),
        ("zoo_fails:f", "the import of zoo_fails raised JSONDecodeError: "),
        ("zoo_fails:f", "(zoo_fails.py, line 4)"),
        ("zoo_user:", "model 'zoo_user:': expected package.module:factory"),
        (":tiny", "model ':tiny': expected package.module:factory"),
        (".zoo_user:tiny", "model '.zoo_user:tiny': expected package.module:factory"),
        ("a/b.py:tiny", "model 'a/b.py:tiny': expected package.module:factory"),
    ],
)
def test_a_factory_that_does_not_fit_is_explained_in_one_line(user_module: Path, name: str, message: str) -> None:
    before = list(sys.path)
    with pytest.raises(InputError) as caught:
        build_model(name, 10)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == before
