"""A student of digits, trained once."""

import pytest
from deployed import Project, make_project


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A convnet8 on all of digits, 8 x 8 and grey."""
    return make_project(tmp_path_factory.mktemp("deployed"))
