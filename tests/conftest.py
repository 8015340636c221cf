"""Fixtures for all tests, and settings for two workers on two cores: one thread each, slowest files first."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cached_features import Teacher

# Set before torch is imported. Tests about threads set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Slowest first; `--dist loadfile` hands out files in this order.
SLOWEST = (
    "test_ray.py",
    "test_experiments.py",
    "test_docs_commands.py",
    "test_pipeline.py",
    "test_several_commands.py",
    "test_several_processes.py",
    "test_sharing_dvc.py",
    "test_init.py",
    "test_benchmarks.py",
    "test_generations_dvc.py",
    "test_html_browser.py",
    "test_export.py",
    "test_cluster_recipes.py",
    "test_cli.py",
    "test_given_weights.py",
    "test_store_faults.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the slowest files first, so that no worker starts a long file when the other has finished."""
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOWEST)))


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment after each test: `prepkd.cli.main` sets a variable, which later tests' processes would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def hint() -> Iterator[None]:
    """Register the tests' own term `Hint` among the methods' terms."""
    from cached_features import Hint
    from prepkd.methods.terms import TERMS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TERMS, "hint", Hint)
        yield


@pytest.fixture(scope="session")
def feature_teacher(tmp_path_factory: pytest.TempPathFactory) -> "Teacher":
    """A teacher with stores of its logits and of four entries (`cached_features.make_teacher`)."""
    from cached_features import Hint, make_teacher
    from prepkd.methods.terms import TERMS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TERMS, "hint", Hint)
        return make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def whole_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every stage has run."""
    from whole_project import make

    return make(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: the last bits of results depend on the number, which an earlier module may have changed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
