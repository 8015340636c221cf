"""Work beside the main thread uses only idle processors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from encoded_files import RECIPE, SIZES, encoded, pictures
from prepkd.data.samples.samples import Samples
from prepkd.runtime.prefetch import overlap, prefetch
from prepkd.runtime.processors import compute_on, idle_processors, processors
from prepkd.views import ViewPlan
from small_training import DATASET
from torch import Tensor


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Make torch compute on two processors on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def have(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.runtime.processors.processors", lambda: count)


@pytest.mark.parametrize(("there", "idle"), [(1, 0), (2, 0), (3, 1), (8, 6)])
def test_processors_that_torch_does_not_use_are_idle(there: int, idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    have(there, monkeypatch)
    assert idle_processors() == idle
    assert DATASET.samples.prefetch_depth == (2 if idle else 0)


def in_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Put this process into a cgroup, with a line of /proc/self/cgroup and files below /sys/fs/cgroup."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("prepkd.runtime.processors.CGROUPS", tmp_path)
    monkeypatch.setattr("prepkd.runtime.processors.OWN_CGROUPS", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "350000 100000\n"}, 4),  # three and a half
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),  # more than it may run on
        ("0::/\n", {}, 8),  # the machine's own cgroup has no such file
        ("0::/job/step\n", {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "300000 100000\n"}, 2),
        ("0::/../other\n", {"cpu.max": "300000 100000\n"}, 3),  # outside of the container's namespace
        (
            "4:cpu,cpuacct:/docker/f00d\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("5:cpuset:/\n", {"cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_a_containers_limit_is_kept(
    own: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    in_cgroup(tmp_path, monkeypatch, own, files)
    assert processors() == expected


def test_processors_are_those_that_this_process_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.runtime.processors.OWN_CGROUPS", tmp_path / "none")  # as on macOS
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert processors() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert processors() == os.cpu_count()


def threads(_: object = None) -> int:
    torch.ones(2).add_(1)
    return torch.get_num_threads()


def test_threads_beside_the_main_one_compute_on_one_processor_and_leave_it_its_own() -> None:
    assert list(prefetch(map(threads, range(3)), 2)) == [1, 1, 1]
    assert list(overlap(threads, range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 2
    compute_on(2)
    assert threads() == 2


def test_images_are_decoded_in_threads_of_one_processor_each(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, found, render = ViewPlan(RECIPE, 4, 0, 20), [], ViewPlan.render

    def noted(*arguments: Any) -> Tensor:
        found.append(threads())
        return render(*arguments)

    monkeypatch.setattr(ViewPlan, "render", noted)
    samples = Samples.of(encoded(pictures([SIZES[1]] * 20)), torch.device("cpu"), plan.recipe)
    samples.pixels(plan, *samples.view_rows(plan, 0, slice(0, 20)))
    assert found == [1, 1, 1]
    assert torch.get_num_threads() == 2
