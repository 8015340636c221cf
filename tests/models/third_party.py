"""RepDistiller's and mdistiller's models: the names and shapes in their files, their arithmetic, their file formats.

Written from the layouts in HobbitLong/RepDistiller, models/, and megvii-research/mdistiller, mdistiller/models/cifar/, which
agree in every name; nothing here knows prepkd's models.
"""

import argparse
import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Table = dict[str, tuple[int, ...]]


def conv(name: str, out: int, per_group: int, kernel: int, *, bias: bool = False) -> Table:
    return {f"{name}.weight": (out, per_group, kernel, kernel)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, width: int) -> Table:
    vectors = {f"{name}.{key}": (width,) for key in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{name}.num_batches_tracked": ()}


def linear(name: str, out: int, width: int) -> Table:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


# Names and shapes


def resnet(depth: int, widths: tuple[int, ...], classes: int) -> Table:
    table = conv("conv1", widths[0], 3, 3) | norm("bn1", widths[0])
    for stage, (before, after) in enumerate(pairwise(widths), start=1):
        for i in range((depth - 2) // 6):
            at, entering = f"layer{stage}.{i}", before if i == 0 else after
            table |= conv(f"{at}.conv1", after, entering, 3) | norm(f"{at}.bn1", after)
            table |= conv(f"{at}.conv2", after, after, 3) | norm(f"{at}.bn2", after)
            if i == 0 and (stage > 1 or before != after):
                table |= conv(f"{at}.downsample.0", after, before, 1) | norm(f"{at}.downsample.1", after)
    return table | linear("fc", classes, widths[-1])


def resnetv2(blocks: tuple[int, ...], expansion: int, classes: int) -> Table:
    table, before = conv("conv1", 64, 3, 3) | norm("bn1", 64), 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for i in range(count):
            at, after = f"layer{stage}.{i}", width * expansion
            kernels = (3, 3) if expansion == 1 else (1, 3, 1)
            channels = (before, width, after) if expansion == 1 else (before, width, width, after)
            for k, (kernel, (a, b)) in enumerate(zip(kernels, pairwise(channels), strict=True), start=1):
                table |= conv(f"{at}.conv{k}", b, a, kernel) | norm(f"{at}.bn{k}", b)
            if i == 0 and (stage > 1 or before != after):
                table |= conv(f"{at}.shortcut.0", after, before, 1) | norm(f"{at}.shortcut.1", after)
            before = after
    return table | linear("linear", classes, before)


def wrn(depth: int, factor: int, classes: int) -> Table:
    table, before = conv("conv1", 16, 3, 3), 16
    for stage, width in enumerate((16 * factor, 32 * factor, 64 * factor), start=1):
        for i in range((depth - 4) // 6):
            at = f"block{stage}.layer.{i}"
            table |= norm(f"{at}.bn1", before) | conv(f"{at}.conv1", width, before, 3)
            table |= norm(f"{at}.bn2", width) | conv(f"{at}.conv2", width, width, 3)
            if before != width:
                table |= conv(f"{at}.convShortcut", width, before, 1)
            before = width
    return table | norm("bn1", before) | linear("fc", classes, before)


def vgg(depths: tuple[int, ...], classes: int) -> Table:
    table, before = {}, 3
    for block, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True)):
        for i in range(depth):  # convolution, norm, ReLU: three indices each
            table |= conv(f"block{block}.{3 * i}", width, before, 3, bias=True) | norm(
                f"block{block}.{3 * i + 1}", width
            )
            before = width
    return table | linear("classifier", classes, 512)


MOBILE = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


def mobile_half(classes: int) -> Table:
    table, before = conv("conv1.0", 16, 3, 3) | norm("conv1.1", 16), 16
    for stage, (expansion, width, count, _) in enumerate(MOBILE):
        for i in range(count):
            at, wide = f"blocks.{stage}.{i}.conv", before * expansion
            table |= conv(f"{at}.0", wide, before, 1) | norm(f"{at}.1", wide)
            table |= conv(f"{at}.3", wide, 1, 3) | norm(f"{at}.4", wide)
            table |= conv(f"{at}.6", width, wide, 1) | norm(f"{at}.7", width)
            before = width
    return table | conv("conv2.0", 1280, before, 1) | norm("conv2.1", 1280) | linear("classifier.0", classes, 1280)


def shuffle_v1(classes: int) -> Table:
    table, before = conv("conv1", 24, 3, 1) | norm("bn1", 24), 24
    for stage, (width, count) in enumerate(zip((240, 480, 960), (4, 8, 4), strict=True), start=1):
        for i in range(count):
            at, out = f"layer{stage}.{i}", width - before if i == 0 else width
            table |= conv(f"{at}.conv1", out // 4, before if before == 24 else before // 3, 1) | norm(
                f"{at}.bn1", out // 4
            )
            table |= conv(f"{at}.conv2", out // 4, 1, 3) | norm(f"{at}.bn2", out // 4)
            table |= conv(f"{at}.conv3", out, out // 4 // 3, 1) | norm(f"{at}.bn3", out)
            before = width
    return table | linear("linear", classes, before)


def shuffle_v2(classes: int) -> Table:
    table, before = conv("conv1", 24, 3, 1) | norm("bn1", 24), 24
    for stage, (width, count) in enumerate(zip((116, 232, 464), (4, 8, 4), strict=True), start=1):
        half = width // 2
        for i in range(count):
            shapes = ((half, half, 1), (half, 1, 3), (half, half, 1))
            if i == 0:
                shapes = ((before, 1, 3), (half, before, 1), (half, before, 1), (half, 1, 3), (half, half, 1))
            for k, (out, per_group, kernel) in enumerate(shapes, start=1):
                table |= conv(f"layer{stage}.{i}.conv{k}", out, per_group, kernel) | norm(
                    f"layer{stage}.{i}.bn{k}", out
                )
        before = width
    return table | conv("conv2", 1024, before, 1) | norm("bn2", 1024) | linear("linear", classes, 1024)


NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
# Name in their code: (ours, names and shapes for a number of classes).
MODELS: dict[str, tuple[str, Callable[[int], Table]]] = {
    **{f"resnet{d}": (f"resnet{d}", partial(resnet, d, NARROW)) for d in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{d}x4": (f"resnet{d}x4", partial(resnet, d, WIDE)) for d in (8, 32)},
    **{f"wrn_{d}_{k}": (f"wrn_{d}_{k}", partial(wrn, d, k)) for d, k in ((16, 1), (16, 2), (40, 1), (40, 2))},
    "vgg8": ("vgg8", partial(vgg, (1, 1, 1, 1, 1))),
    "vgg11": ("vgg11", partial(vgg, (1, 1, 2, 2, 2))),
    "vgg13": ("vgg13", partial(vgg, (2, 2, 2, 2, 2))),
    "vgg16": ("vgg16", partial(vgg, (2, 2, 3, 3, 3))),
    "vgg19": ("vgg19", partial(vgg, (2, 2, 4, 4, 4))),
    "mobile_half": ("mobilenetv2", mobile_half),  # the name in RepDistiller
    "MobileNetV2": ("mobilenetv2", mobile_half),  # the name in mdistiller, on CIFAR-100
    "ShuffleV1": ("shufflenetv1", shuffle_v1),
    "ShuffleV2": ("shufflenetv2", shuffle_v2),
    "ResNet18": ("resnet18", partial(resnetv2, (2, 2, 2, 2), 1)),
    "ResNet34": ("resnet34", partial(resnetv2, (3, 4, 6, 3), 1)),
    "ResNet50": ("resnet50", partial(resnetv2, (3, 4, 6, 3), 4)),
}


def random_state(table: Table, seed: int = 0) -> "OrderedDict[str, Tensor]":
    """Draw tensors of these names and shapes, scaled so that no layer's output vanishes or explodes."""
    draw, state = torch.Generator().manual_seed(seed), OrderedDict()
    for key, shape in table.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(93_840)
        elif len(shape) > 1:
            state[key] = torch.randn(shape, generator=draw) * (2 / np.prod(shape[1:])) ** 0.5
        else:
            state[key] = torch.rand(shape, generator=draw) * 0.8 + (0.6 if key.endswith("var") else -0.4)
            if key.endswith("weight"):
                state[key] += 1
    return state


# Their arithmetic in evaluation mode, by the names in their files


class Net:
    """A model's layers by name."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {key: value.double() for key, value in state.items()}

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[2] // 2, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            self.state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def head(self, x: Tensor, name: str) -> Tensor:
        """Average the last map, then apply the classifier."""
        return x.mean(dim=(2, 3)) @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)

    def count(self, name: str) -> int:
        return next(i for i in range(99) if not self.has(f"{name}.{i}"))


def forward_resnet(net: Net, x: Tensor, *, stages: int, shortcut: str, head: str) -> Tensor:
    x = net.norm(net.conv(x, "conv1"), "bn1").relu()
    for stage in range(1, stages + 1):
        for i in range(net.count(f"layer{stage}")):
            at, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            three = net.has(f"{at}.conv3")
            out = net.norm(net.conv(x, f"{at}.conv1", 1 if three else stride), f"{at}.bn1").relu()
            out = net.norm(net.conv(out, f"{at}.conv2", stride if three else 1), f"{at}.bn2")
            if three:
                out = net.norm(net.conv(out.relu(), f"{at}.conv3"), f"{at}.bn3")
            if net.has(f"{at}.{shortcut}"):
                x = net.norm(net.conv(x, f"{at}.{shortcut}.0", stride), f"{at}.{shortcut}.1")
            x = (out + x).relu()
    return net.head(x, head)


def forward_wrn(net: Net, x: Tensor) -> Tensor:
    x = net.conv(x, "conv1")
    for stage in (1, 2, 3):
        for i in range(net.count(f"block{stage}.layer")):
            at, stride = f"block{stage}.layer.{i}", 2 if stage > 1 and i == 0 else 1
            active = net.norm(x, f"{at}.bn1").relu()
            out = net.norm(net.conv(active, f"{at}.conv1", stride), f"{at}.bn2").relu()
            skip = net.conv(active, f"{at}.convShortcut", stride) if net.has(f"{at}.convShortcut") else x
            x = skip + net.conv(out, f"{at}.conv2")
    return net.head(net.norm(x, "bn1").relu(), "fc")


def forward_vgg(net: Net, x: Tensor) -> Tensor:
    for block in range(5):
        if block in (1, 2, 3):
            x = F.max_pool2d(x, 2)
        for i in range(0, 12, 3):
            if net.has(f"block{block}.{i}"):
                x = net.norm(net.conv(x, f"block{block}.{i}"), f"block{block}.{i + 1}").relu()
    return net.head(x, "classifier")


def forward_mobile(net: Net, x: Tensor) -> Tensor:
    x = net.norm(net.conv(x, "conv1.0", 2), "conv1.1").relu()
    for stage, (_, _, count, first) in enumerate(MOBILE):
        for i in range(count):
            at = f"blocks.{stage}.{i}.conv"
            out = net.norm(net.conv(x, f"{at}.0"), f"{at}.1").relu()
            out = net.norm(net.conv(out, f"{at}.3", first if i == 0 else 1, out.shape[1]), f"{at}.4").relu()
            out = net.norm(net.conv(out, f"{at}.6"), f"{at}.7")
            x = x + out if x.shape == out.shape else out
    return net.head(net.norm(net.conv(x, "conv2.0"), "conv2.1").relu(), "classifier.0")


def deal(x: Tensor, groups: int) -> Tensor:
    """Shuffle channels: channel j of group g goes to place j * groups + g."""
    return x[:, [g * (x.shape[1] // groups) + j for j in range(x.shape[1] // groups) for g in range(groups)]]


def forward_shuffle_v1(net: Net, x: Tensor) -> Tensor:
    x = net.norm(net.conv(x, "conv1"), "bn1").relu()
    for stage in (1, 2, 3):
        for i in range(net.count(f"layer{stage}")):
            at, groups = f"layer{stage}.{i}", 1 if x.shape[1] == 24 else 3
            out = deal(net.norm(net.conv(x, f"{at}.conv1", groups=groups), f"{at}.bn1").relu(), groups)
            out = net.norm(net.conv(out, f"{at}.conv2", 2 if i == 0 else 1, out.shape[1]), f"{at}.bn2").relu()
            out = net.norm(net.conv(out, f"{at}.conv3", groups=3), f"{at}.bn3")
            x = (torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], dim=1) if i == 0 else out + x).relu()
    return net.head(x, "linear")


def forward_shuffle_v2(net: Net, x: Tensor) -> Tensor:
    x = net.norm(net.conv(x, "conv1"), "bn1").relu()
    for stage in (1, 2, 3):
        for i in range(net.count(f"layer{stage}")):

            def layer(x: Tensor, k: int, stride: int = 1, at: str = f"layer{stage}.{i}") -> Tensor:
                each = net.state[f"{at}.conv{k}.weight"].shape[1:] == (1, 3, 3)
                return net.norm(net.conv(x, f"{at}.conv{k}", stride, x.shape[1] if each else 1), f"{at}.bn{k}")

            if i == 0:
                left = layer(layer(x, 1, 2), 2).relu()
                right = layer(layer(layer(x, 3).relu(), 4, 2), 5).relu()
            else:
                left, right = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
                right = layer(layer(layer(right, 1).relu(), 2), 3).relu()
            x = deal(torch.cat([left, right], dim=1), 2)
    return net.head(net.norm(net.conv(x, "conv2"), "bn2").relu(), "linear")


def forward(name: str, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return logits (B, K) of 32 x 32 images by their model of this name, in float64."""
    families: dict[str, Callable[[Net, Tensor], Tensor]] = {
        "resnet": partial(forward_resnet, stages=3, shortcut="downsample", head="fc"),
        "wrn": forward_wrn,
        "vgg": forward_vgg,
        "mobile": forward_mobile,
        "Mobile": forward_mobile,
        "ShuffleV1": forward_shuffle_v1,
        "ShuffleV2": forward_shuffle_v2,
        "ResNet": partial(forward_resnet, stages=4, shortcut="shortcut", head="linear"),
    }
    (family,) = (family for start, family in families.items() if name.startswith(start))
    return family(Net(state), x.double())


# Their files


def optimizer() -> dict[str, Any]:
    """Return SGD's state as both projects save it: 0.1 ** np.int64(3) is a NumPy number."""
    return {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": np.float64(5e-5), "params": [0]}]}


def options(**extra: Any) -> argparse.Namespace:
    return argparse.Namespace(model="resnet8", dataset="cifar100", lr_decay_epochs=[150, 180, 210], **extra)


def save_on_an_old_gpu(content: Any, path: Path) -> None:
    """Save as PyTorch 0.4 saved GPU tensors: five pickles, then each storage's length and bytes."""
    storages: dict[str, Any] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, torch.storage.TypedStorage):
                return None
            key = str(value.data_ptr())
            storages[key] = value
            return "storage", getattr(torch.cuda, type_name(value)), key, "cuda:0", value.size(), None

    def type_name(value: Any) -> str:
        return {torch.float32: "FloatStorage", torch.int64: "LongStorage"}[value.dtype]

    body = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # typed storages are deprecated
        Pickler(body, protocol=2).dump(content)
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            pickle.dump(value, file, protocol=2)
        file.write(body.getvalue())
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            raw = storages[key].untyped()
            file.write(storages[key].size().to_bytes(8, "little") + bytes(raw.tolist()))


State = Mapping[str, Tensor]


def repdistiller_published(state: State, path: Path) -> None:
    """Write ckpt_epoch_240.pth as PyTorch 0.4.0 did on a GPU, without batch counters."""
    kept = OrderedDict((key, value) for key, value in state.items() if not key.endswith("num_batches_tracked"))
    content = {"epoch": 240, "model": kept, "accuracy": torch.tensor([79.42]), "optimizer": optimizer()}
    save_on_an_old_gpu(content, path)


def repdistiller_best(state: State, path: Path) -> None:
    content = {"epoch": 231, "model": state, "best_acc": torch.tensor([79.6]), "optimizer": optimizer()}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def repdistiller_last(state: State, path: Path) -> None:
    torch.save({"opt": options(trial=0), "model": state, "optimizer": optimizer()}, path)


def mdistiller_student(state: State, path: Path) -> None:
    torch.save({"model": state}, path)


def mdistiller_latest(state: State, path: Path) -> None:
    """Write the whole distiller under DataParallel: student, teacher and the method's modules."""
    both = {f"module.student.{key}": value for key, value in state.items()}
    both |= {f"module.teacher.{key}": value + 1 for key, value in state.items()}
    both |= {"module.conv_reg.conv.weight": torch.ones(2, 2, 1, 1)}
    torch.save({"epoch": 240, "model": both, "optimizer": optimizer(), "best_acc": torch.tensor([76.3])}, path)


def data_parallel(state: State, path: Path) -> None:
    torch.save({f"module.{key}": value for key, value in state.items()}, path)


# A file's usual name -> its writer and its form.
FILES: dict[str, tuple[Callable[[State, Path], None], str]] = {
    "ckpt_epoch_240.pth": (repdistiller_published, "repdistiller"),
    "resnet8_best.pth": (repdistiller_best, "repdistiller"),
    "resnet8_last.pth": (repdistiller_last, "repdistiller"),
    "student_best": (mdistiller_student, "mdistiller"),
    "latest": (mdistiller_latest, "mdistiller"),
    "parallel.pt": (data_parallel, "plain"),
}
