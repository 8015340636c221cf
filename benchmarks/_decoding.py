"""One epoch over encoded images, with torchvision and with prepkd."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch
from prepkd.data.samples.read import TrainingViews, read_dataset
from prepkd.training.batches import Epoch, batches
from prepkd.views import parse_recipe
from prepkd.views.order import sample_order
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

VIEWS = 2**16  # enough for a new view in each call


def loaded(raw: Path, size: int, count: int, workers: int) -> Callable[[int], object]:
    """Return an epoch of a DataLoader over the files, with persistent workers."""
    side = 64
    transforms = v2.Compose(
        [
            v2.RandomResizedCrop(side, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    loader = DataLoader(
        ImageFolder(str(raw / "train"), transforms), size, shuffle=True, num_workers=workers, persistent_workers=True
    )

    def run(turn: int) -> None:
        seen = sum(len(pixels) for pixels, _ in islice(loader, -(-count // size)))
        assert seen >= min(count, len(loader.dataset))  # type: ignore[arg-type]

    return run


def ours(prepared: Path, recipe: Sequence[object], size: int, count: int) -> Callable[[int], object]:
    """Return an epoch of prepkd's training batches."""
    parsed = parse_recipe(recipe)
    dataset = read_dataset(prepared, TrainingViews(parsed, VIEWS, 0), torch.device("cpu"), held_out_recipe=parsed)

    def run(turn: int) -> None:
        order = torch.from_numpy(sample_order(0, turn, len(dataset.samples)))[:count]
        epoch = Epoch(order, torch.from_numpy(dataset.plan.parameters(turn)), {})
        seen = sum(len(pixels) for pixels, *_ in batches(dataset, epoch, (), size, size))
        assert seen == len(order)

    return run
