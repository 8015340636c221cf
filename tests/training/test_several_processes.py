"""Training with several processes gives the figures and weights of one process, except for the rounding of sums."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import together
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.models import save_checkpoint
from prepkd.models.new import new_model
from prepkd.runtime import distributed
from prepkd.runtime.rank import rank_and_world_size
from prepkd.training.batch_norm import check_shares, restore, synchronise
from prepkd.training.settings import Training
from several_worker import STUDENTS
from small_training import CLASSES, DATASET, timeless
from torch import nn

WORKER = Path(__file__).parent / "several_worker.py"
PATHS = os.pathsep.join(str(folder) for folder in (WORKER.parent, WORKER.parents[1]))  # with the tests' helpers
# The largest change of a weight after 2 epochs; measured on the first machine: 4e-4 (pkt), most below 1e-6. A change of 1e-7
# in the first weights grows as much.
TOLERANCE = 2e-3
LOCAL = "local", "local and averaged"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[dict[str, Any]]]:
    """Return a function of the number of processes that gives each process's results, by student."""
    folder = tmp_path_factory.mktemp("several")
    card = {"model": "resnet14", "num_classes": CLASSES, "in_channels": 1}
    save_checkpoint(folder / "teacher", new_model("resnet14", DATASET, 9), card)
    for count in (1, 3):
        place = folder / str(count)
        place.mkdir()
        said = together(count, "python", str(WORKER), str(folder / "teacher"), str(place), cwd=folder, PYTHONPATH=PATHS)
        assert said == [(0, "")] * count

    def found(count: int) -> list[dict[str, Any]]:
        files = (folder / str(count) / f"{rank} of {count}.pt" for rank in range(count))
        return [torch.load(file, weights_only=True) for file in files]

    return found


@pytest.mark.parametrize("name", [name for name in STUDENTS if name not in ("nst", *LOCAL)])
def test_three_processes_train_the_student_of_one(name: str, trained: Callable[[int], list[dict[str, Any]]]) -> None:
    """Relations within a batch, its mean, adapters and banks cover the whole batch, and so do the logged figures."""
    [alone], shared = trained(1), trained(3)
    one = alone[name]
    for each in shared:
        assert each[name]["weights"].keys() == one["weights"].keys()
        for key, expected in one["weights"].items():
            torch.testing.assert_close(each[name]["weights"][key], expected, rtol=0, atol=TOLERANCE)
            assert torch.equal(each[name]["weights"][key], shared[0][name]["weights"][key])
        for row, expected in zip(timeless(each[name]["history"]), timeless(one["history"]), strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_hundredfold_loss_is_close_as_well(trained: Callable[[int], list[dict[str, Any]]]) -> None:
    """NST's kernel amplifies the rounding of features as much as a change of 1e-7 in the first weights does in one process."""
    [alone], shared = trained(1), trained(3)
    for one, each in zip(alone["nst"]["history"], shared[2]["nst"]["history"], strict=True):
        assert each["train/loss"] == pytest.approx(one["train/loss"], rel=5e-3)


@pytest.mark.parametrize("name", LOCAL)
def test_local_batch_norm_is_another_student_but_one_for_all_processes(
    name: str, trained: Callable[[int], list[dict[str, Any]]]
) -> None:
    """Each process normalises its own samples, and the running statistics are averaged after each epoch."""
    [alone], shared = trained(1), trained(3)
    first = shared[0][name]["weights"]
    assert max((value - first[key]).abs().max() for key, value in alone[name]["weights"].items()) > 1e-2
    for each in shared[1:]:
        for key, value in each[name]["weights"].items():
            torch.testing.assert_close(value, first[key], rtol=0, atol=0)


def test_local_batch_norm_needs_two_samples_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    check_shares(70, 16)  # the last batch has 6
    with pytest.raises(InputError, match="the shortest batch has 5 samples for 3 processes; expected two for each"):
        check_shares(69, 16)


def test_shares_are_whole_and_differ_by_one_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(distributed, "world_size", lambda count=count: count)
        for total in (0, 1, 2, 7, 64, 65):
            parts = distributed.rank_slices(total)
            assert [sample for part in parts for sample in range(total)[part]] == list(range(total))
            lengths = [part.stop - part.start for part in parts]
            assert len(parts) == count and max(lengths) - min(lengths) <= 1


def test_synchronised_batch_norm_leaves_names_parameters_and_evaluation_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(3 * 36))
    pixels, before = torch.rand(5, 1, 8, 8), {name: value.clone() for name, value in model.state_dict().items()}
    expected, kinds = model.eval()(pixels), [type(module) for module in model]
    synchronise(model)
    assert torch.equal(model(pixels), expected) and [type(module) for module in model] != kinds
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    restore(model)
    assert [type(module) for module in model] == kinds


def test_a_batch_norm_of_another_kind_is_named() -> None:
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(
        InputError, match="1 is a Own, which can't normalise over several processes; set batch_norm: local"
    ):
        synchronise(nn.Sequential(nn.Identity(), Own(3)))


def test_batch_norm_is_part_of_a_run_only_if_it_changes_it() -> None:
    plain = Training.model_validate({"epochs": 1}).used(but=set())
    assert Training.model_validate({"epochs": 1, "batch_norm": "synchronised"}).used(but=set()) == plain
    assert Training.model_validate({"epochs": 1, "batch_norm": "local"}).used(but=set()) != plain
    assert "batch_norm" in Distill.model_fields


@pytest.mark.parametrize(
    ("rank", "world"), [("1", "1"), ("-1", "2"), ("0", "two"), ("", "2"), ("0", "9" * 9), ("0", "0"), ("1.0", "2")]
)
def test_numbers_of_a_launcher_that_make_no_sense_are_one_line(
    rank: str, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(InputError, match="expected 0 <= RANK < WORLD_SIZE"):
        rank_and_world_size()
    monkeypatch.delenv("RANK")
    assert rank_and_world_size() == (0, 1)  # other programs set WORLD_SIZE alone
