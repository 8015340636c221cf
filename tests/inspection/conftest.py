"""Fixtures: made-up stores, in every encoding and in f16."""

import pytest
from made_up_store import ENCODINGS, MadeUp, write


@pytest.fixture(scope="module", params=ENCODINGS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write(tmp_path_factory.mktemp("stores") / "made-up.zarr", request.param)


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write(tmp_path_factory.mktemp("stores") / "made-up.zarr", "f16")
