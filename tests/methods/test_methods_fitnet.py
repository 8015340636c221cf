"""FitNets: the hint against loops, and the regressor for each relation of map sizes."""

import pytest
import torch
from prepkd.errors import InputError
from prepkd.losses import hint
from prepkd.methods.fitnet import FitNet, regressor
from prepkd.methods.term import State
from torch import Size, Tensor, nn

LABELS = torch.zeros(2, dtype=torch.int64)


def maps(seed: int, channels: int = 3, size: int = 4) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_hint_is_the_loops_and_zero_for_equal_maps() -> None:
    student, teacher = maps(0), maps(1)
    pairs = zip(student.flatten(1).tolist(), teacher.flatten(1).tolist(), strict=True)
    expected = [sum((s - t) ** 2 for s, t in zip(*rows, strict=True)) / len(rows[0]) for rows in pairs]
    assert hint(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)
    same = student.requires_grad_()
    hint(same, maps(0)).sum().backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None and float(same.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [((4, 4), (4, 4), (1, 1)), ((8, 8), (4, 4), (3, 3)), ((4, 4), (8, 8), (4, 4)), ((7, 6), (4, 5), (4, 2))],
)
def test_the_regressor_maps_to_the_teachers_shape(
    student: tuple[int, int], teacher: tuple[int, int], kernel: tuple[int, int]
) -> None:
    layers = regressor(Size((3, *student)), Size((5, *teacher)), relu=True)
    assert layers(torch.randn(2, 3, *student)).shape == (2, 5, *teacher)
    assert layers[0].kernel_size == kernel and isinstance(layers[0], nn.ConvTranspose2d) == (teacher == (8, 8))


def test_its_parameters_are_those_of_the_published_code() -> None:
    """The regressor from resnet32x4 to resnet8x4 on CIFAR has 128 * 128 + 128 parameters, and 2 * 128 in batch norm."""
    layers = FitNet().adapter({"stage2": Size((128, 16, 16))}, {"stage2": Size((128, 16, 16))}, 0)
    assert sum(values.numel() for values in layers.parameters()) == 16_768


def test_a_teachers_map_that_no_convolution_reaches_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"fitnet: the student's map is 4x4, the teacher's 16x16; .* set distill.fitnet.stage"
    ):
        FitNet().adapter({"stage2": Size((3, 4, 4))}, {"stage2": Size((3, 16, 16))}, 0)
    with pytest.raises(
        InputError, match=r"distill.fitnet.stage has 'stage2': shapes \(3,\) and \(3, 4, 4\); expected two"
    ):
        FitNet().adapter({"stage2": Size((3,))}, {"stage2": Size((3, 4, 4))}, 0)


def test_the_term_compares_the_regressors_output_with_the_teachers_own_map() -> None:
    term = FitNet(stage="a")
    student, teacher = {"a": maps(0).float()}, {"a": maps(1, 5, 8).float()}
    shapes = [{name: values.shape[1:] for name, values in features.items()} for features in (student, teacher)]
    adapter = term.adapter(shapes[0], shapes[1], 70)
    own, theirs = term.teacher_tensors(student, shapes[1]), term.teacher_tensors(teacher, shapes[0])
    assert tuple(theirs["a"].shape[1:]) == (5, 8, 8), "the whole map"
    found = term.loss(own, theirs, LABELS, State(torch.zeros(()), adapter))
    torch.testing.assert_close(found, hint(adapter(student["a"]), teacher["a"]))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in adapter.parameters())


def test_negative_maps_need_a_regressor_without_relu() -> None:
    """The published ReLU cannot produce the negative half of a WRN's residual sums."""
    teacher = student = maps(1).float()
    left = {}
    for relu in (True, False):
        torch.manual_seed(0)
        term = FitNet(stage="a", relu=relu)
        adapter = term.adapter({"a": Size((3, 4, 4))}, {"a": Size((3, 4, 4))}, 0)
        steps = torch.optim.SGD(adapter.parameters(), lr=0.3)
        for _ in range(200):
            steps.zero_grad()
            loss = term.loss({"a": student}, {"a": teacher}, LABELS, State(torch.zeros(()), adapter)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            steps.step()
        left[relu] = float(loss.detach())
    floor = float(teacher.clamp(max=0).square().mean())
    assert left[True] > 0.99 * floor > 0.1 and left[False] < 1e-3
