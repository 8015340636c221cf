"""Two workers share two processors: each computes on one, and the files that take longest come first."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cached_features import Teacher

# Before anything imports torch. A test that is about threads sets their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# In the order of their time; `--dist loadfile` hands out files in this order.
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
    """Slowest first, so that no worker begins a long file when the other is done."""
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOWEST)))


@pytest.fixture(scope="module")
def hint() -> Iterator[None]:
    """A term of the tests' own is one of the methods' terms."""
    from cached_features import Hint
    from prepkd.methods.terms import TERMS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TERMS, "hint", Hint)
        yield


@pytest.fixture(scope="session")
def feature_teacher(tmp_path_factory: pytest.TempPathFactory) -> "Teacher":
    """A teacher, its logits, and four entries: terms with maps and with bits, a term and a feature of vectors."""
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
    """One thread, whatever a module before has set: the last bits of results depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
