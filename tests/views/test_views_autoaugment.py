"""RandAugment and TrivialAugment equal torchvision's classes if these draw the integers of a view."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from prepkd.views import ViewPlan, randaugment, trivial_augment
from prepkd.views.magnitudes import NAMES, SIGNED, magnitude_of
from prepkd.views.operations import OPERATIONS
from prepkd.views.trivial_augment import BINS
from torch import Tensor
from torchvision.transforms import v2

SIZES = [(3, 32, 32), (1, 8, 8), (3, 9, 13), (1, 28, 28), (3, 64, 40), (3, 2, 2)]


def pictures(count: int, size: tuple[int, int, int]) -> Tensor:
    """Return noise in half of the value range, so that contrast and equalisation have an effect."""
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(40, 180, (count, *size), generator=generator, dtype=torch.uint8)


def rendered(recipe: list[Any], images: Tensor, rows: Tensor) -> Tensor:
    return (ViewPlan(recipe, 1, 0, 1).render(images, rows) * 255).round().to(torch.uint8)


def theirs(transform: v2.Transform, image: Tensor, drawn: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Transform one image by torchvision's class with its draws taken from `drawn`; a sign of 1 is negative."""
    values = iter(drawn)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", lambda *_, **__: torch.tensor(next(values)))
        patch.setattr(torch, "rand", lambda *_, **__: torch.tensor(0.25 if next(values) else 0.75))
        result = transform(image)
    assert next(values, None) is None
    return torch.as_tensor(result)


def draws(operation: int, bins: list[int], negative: int) -> list[int]:
    """Return torchvision's draws for an operation: a bin only if it has a magnitude, a sign only if it has two."""
    name = NAMES[operation]
    takes = name in SIGNED or name in ("posterize", "solarize")
    return [operation, *(bins if takes else []), *([negative] if name in SIGNED else [])]


@pytest.mark.parametrize("setting", [(9, 31), (0, 31), (30, 31), (4, 5), (1, 2)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_randaugment_is_torchvisions(
    size: tuple[int, int, int], setting: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    level, bins = setting
    transform = v2.RandAugment(1, magnitude=level, num_magnitude_bins=bins)
    rows = torch.tensor([[o, negative] for o in range(len(NAMES)) for negative in (0, 1)])
    images = pictures(len(rows), size)
    pixels = rendered([{"randaugment": {"ops": 1, "magnitude": level, "bins": bins}}], images, rows)
    for image, got, (o, negative) in zip(images, pixels, rows.tolist(), strict=True):
        assert torch.equal(got, theirs(transform, image, draws(o, [], negative), monkeypatch)), (NAMES[o], negative)


@pytest.mark.parametrize("ops", [2, 3])
def test_operations_follow_each_other(ops: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ViewPlan([{"randaugment": {"ops": ops}}], 1, 3, 60)
    rows, images, transform = torch.from_numpy(plan.parameters(0)), pictures(60, (3, 32, 32)), v2.RandAugment(ops)
    pixels = (plan.render(images, rows) * 255).round().to(torch.uint8)
    for image, got, row in zip(images, pixels, rows.tolist(), strict=True):
        drawn = [value for i in range(ops) for value in draws(row[2 * i], [], row[2 * i + 1])]
        assert torch.equal(got, theirs(transform, image, drawn, monkeypatch))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_trivial_augment_is_torchvisions(size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """All 868 views are compared."""
    transform = v2.TrivialAugmentWide()
    rows = torch.tensor([[o, b, s] for o in range(len(NAMES)) for b in range(BINS) for s in (0, 1)])
    images = pictures(len(rows), size)
    pixels = rendered(["trivial-augment"], images, rows)
    for image, got, (o, b, negative) in zip(images, pixels, rows.tolist(), strict=True):
        assert torch.equal(got, theirs(transform, image, draws(o, [b], negative), monkeypatch)), (NAMES[o], b, negative)


def space(transform: Any, bins: int, levels: Iterable[int], height: int, width: int) -> set[tuple[int, float]]:
    """Return the augmentation space of a torchvision class: operations' places with their signed magnitudes."""
    found: set[tuple[int, float]] = set()
    for place, (magnitudes, signed) in enumerate(transform._AUGMENTATION_SPACE.values()):
        values = magnitudes(bins, height, width)
        sizes = [0.0] if values is None else [float(values[level]) for level in levels]
        found |= {(place, sign * size) for size in sizes for sign in ((1, -1) if signed else (1,))}
    return found


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (224, 224), (48, 96)], ids=str)
def test_the_integers_reach_what_torchvision_reaches_and_nothing_else(size: tuple[int, int]) -> None:
    for bins in (2, 10, 31):
        for level in (0, bins // 2, bins - 1):
            ours = {
                (o, magnitude_of(name, randaugment.strongest(name, *size), level, bins, negative))
                for o, name in enumerate(NAMES)
                for negative in (0, 1)
            }
            assert ours == space(v2.RandAugment, bins, [level], *size)
    ours = {
        (o, magnitude_of(name, trivial_augment.strongest(name), level, BINS, negative))
        for o, name in enumerate(NAMES)
        for level in range(BINS)
        for negative in (0, 1)
    }
    assert ours == space(v2.TrivialAugmentWide, BINS, range(BINS), *size)


def test_the_space_is_the_plans() -> None:
    assert tuple(OPERATIONS) == NAMES and len(NAMES) == len(v2.RandAugment._AUGMENTATION_SPACE)
    assert ViewPlan(["trivial-augment"], "all", 0, 1).views == 868
    assert ViewPlan([{"randaugment": {"ops": 1}}], "all", 0, 1).views == 28
    assert ViewPlan(["randaugment"], "all", 0, 1).views == 784


@pytest.mark.parametrize("name", ["randaugment", "trivial-augment"])
@pytest.mark.parametrize("size", [(3, 32, 32), (1, 9, 13), (3, 7, 5), (3, 300, 280)], ids=str)
def test_a_batch_is_its_images_one_by_one(name: str, size: tuple[int, int, int]) -> None:
    """The bits are equal, as no sum runs over a batch or in an order that depends on its shape.

    A float32 sum of 8-bit values is not exact for 300 by 280 pixels.
    """
    count = 400 if size[1] < 100 else 60
    images, plan = pictures(count, size), ViewPlan([name], 1, 5, count)
    rows = torch.from_numpy(plan.parameters(0))
    whole = plan.render(images, rows)
    assert torch.equal(images, pictures(count, size)), "the images stay as they are"
    for i in range(count):
        assert torch.equal(plan.render(images[i : i + 1], rows[i : i + 1])[0], whole[i])
    half = slice(0, count, 2)
    assert torch.equal(plan.render(images[half], rows[half]), whole[half])
    assert plan.render(images[:0], rows[:0]).shape == (0, *size)


@pytest.mark.parametrize("operation", NAMES)
def test_alike_images_run_together_as_alone(operation: str) -> None:
    """One operation runs on a whole batch of odd size: vectorised loops end elsewhere in a batch than in an image."""
    for size in ((3, 7, 5), (3, 33, 31), (1, 5, 3), (3, 260, 270)):
        images = pictures(9, size)
        rows = torch.tensor([[NAMES.index(operation), 13, 1]] * 9)
        whole = rendered(["trivial-augment"], images, rows)
        for i in range(9):
            assert torch.equal(rendered(["trivial-augment"], images[i : i + 1], rows[:1])[0], whole[i])


@pytest.mark.parametrize("name", ["randaugment", "trivial-augment"])
def test_other_channels_are_refused(name: str) -> None:
    plan = ViewPlan([name], 1, 0, 2)
    with pytest.raises(ValueError, match="images have 4 channels; randaugment and trivial-augment take 1 or 3"):
        plan.render(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.from_numpy(plan.parameters(0)))


def test_grey_images_have_no_color_to_change() -> None:
    images = pictures(2, (1, 8, 8))
    rows = torch.tensor([[NAMES.index("color"), 30, 0], [NAMES.index("color"), 30, 1]])
    assert torch.equal(rendered(["trivial-augment"], images, rows), images)
