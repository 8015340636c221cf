"""Answers of public CIFAR-100 networks, for benchmarks of targets: a teacher's logits, and a smaller network's features.

The checkpoints are `pretrained/resnet<depth>_cifar100.pth` of github.com/karanchahal/distiller. The features are the inputs of
the last layer; training a student on them takes seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from prepkd.data.sources.cifar import CIFAR100
from prepkd.views import ViewPlan
from torch import nn

from benchmarks._datasets import CIFAR_RECIPE, SEED
from examples.distiller_resnet import ResNet

MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
BATCH = 250


def load(folder: Path, depth: int) -> ResNet:
    """Load one of the checkpoints, in evaluation mode."""
    found = torch.load(folder / f"resnet{depth}_cifar100.pth", weights_only=True, map_location="cpu")
    model = ResNet(depth, num_classes=100, in_channels=3)
    model.load_state_dict({name.removeprefix("module."): value for name, value in found["model_state_dict"].items()})
    return model.eval()


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    """Run both networks and write their outputs."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)
    data = CIFAR100.read(options.cifar)
    teacher, small = load(options.networks, options.teacher), load(options.networks, options.features)
    small.linear = nn.Identity()  # its output is then the features
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images = torch.from_numpy(data.train_images[: options.samples]).permute(0, 3, 1, 2)
    plan = ViewPlan(CIFAR_RECIPE, options.views, SEED, len(images))
    logits, features = [], []
    for view in range(plan.views):
        rows = torch.from_numpy(plan.parameters(view))
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            pixels = (plan.render(images[part], rows[part]) - mean) / std
            logits.append(teacher(pixels))
            features.append(small(pixels))
    test = (torch.from_numpy(data.test_images).permute(0, 3, 1, 2) / 255 - mean) / std
    shape = plan.views, plan.samples
    np.savez(
        options.out,
        images=f"CIFAR-100, the first {plan.samples:,} training images, {plan.views} drawn views (pad-4 crop, flip)",
        teacher=f"the public resnet{options.teacher} of karanchahal/distiller",
        student=f"one hidden layer of 256 on the frozen features of its resnet{options.features}",
        logits=torch.cat(logits).view(*shape, 100).numpy(),
        features=torch.cat(features).view(*shape, 256).numpy(),
        labels=data.train_labels[: options.samples],
        test_features=torch.cat([small(part) for part in test.split(BATCH)]).numpy(),
        test_logits=torch.cat([teacher(part) for part in test[: options.tested].split(BATCH)]).numpy(),
        test_labels=data.test_labels,
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.public_answers", description=__doc__)
    found.add_argument("cifar", type=Path, help="the folder with the official CIFAR-100 files")
    found.add_argument("networks", type=Path, help="the folder with the checkpoints")
    found.add_argument("--teacher", type=int, default=32, help="the teacher's depth")
    found.add_argument("--features", type=int, default=8, help="the depth of the network whose features a student gets")
    found.add_argument("--views", type=int, default=2)
    found.add_argument("--samples", type=int, default=10_000)
    found.add_argument("--tested", type=int, default=2_000, help="test images that the teacher answers")
    found.add_argument("--out", type=Path, required=True, help="an .npz file")
    return found


if __name__ == "__main__":
    main()
