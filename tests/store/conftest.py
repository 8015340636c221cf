"""Fixtures: a small teacher, a few images, and finished stores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import store_writing
import torch
from elsewhere_files import write_answers
from prepkd.cli import app
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised, build_model
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan
from store_checks import Example

BATCH = 4

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, precision: float32}}
cache: {views: all, batch_size: 16, chunk: 16}
distill: {teacher: large, student: convnet4, epochs: 1}
compare: {runs: [kd]}
"""


@pytest.fixture(scope="session")
def teacher() -> Normalised:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = Normalised(build_model("convnet4", 5, in_channels=1), Preprocessing(mean=(0.3,), std=(0.4,)))
        model(torch.rand(64, 1, 8, 8))  # moves the batch norms' statistics
    return model.eval()


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """22 images of 8x8 under 3 views: chunks of 8 give two whole ones and a short one; the last batch is short, too."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (22, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 5, (22,), generator=generator)
    plan = ViewPlan([{"crop": {"padding": 1}}, "flip"], 3, 7, 22)
    origin = {"dataset": "noise", "dataset_fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "device": "cpu"}
    return Dataset(Samples(images, labels), {}, plan, Preprocessing(mean=(0.3,), std=(0.4,)), 5, origin=origin)


@pytest.fixture(scope="session", params=["ieee", "bf16"])
def example(
    request: pytest.FixtureRequest, teacher: Normalised, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Example:
    """Write the teacher's answers to a store, in float32 and in bf16."""
    folder = tmp_path_factory.mktemp("stores") / f"{request.param}.zarr"
    settings = Cache(views=3, seed=7, precision=request.param, batch_size=BATCH, chunk=9)
    card = {
        "name": "large",
        "model": "convnet4",
        "weights_fingerprint": "e" * 64,
        "preprocessing": {"mean": [0.3], "std": [0.4]},
    }
    return Example(teacher, dataset, settings, write_answers(folder, teacher, dataset, settings, card))


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "made-up.zarr"
    store_writing.write(folder)
    return folder


@pytest.fixture
def folder(made_up: Path, tmp_path: Path) -> Path:
    """Write a finished store of made-up logits, for tests that damage it."""
    return shutil.copytree(made_up, tmp_path / "made-up.zarr")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a prepared data set and a teacher of digits."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PREPKD_SCRATCH", raising=False)
        app(["prepare"], standalone_mode=False)
        app(["train-teacher", "large"], standalone_mode=False)
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start a local S3 server with a bucket named `bucket`, and yield its endpoint."""
    moto = pytest.importorskip("moto.server", reason="the test extra brings moto, a local S3 server")
    s3fs = pytest.importorskip("s3fs", reason="the s3 extra brings s3fs")
    # fsspec caches connections: a connection that an earlier test made without credentials would lack those of `s3`.
    s3fs.S3FileSystem.clear_instance_cache()
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    s3fs.S3FileSystem(key="key", secret="SECRETPW", endpoint_url=endpoint).mkdir("bucket")
    yield endpoint
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a bucket; endpoint and credentials are in the environment, for subprocesses too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETPW")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return "s3://bucket"


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a root of each kind: a folder, this process's memory, a bucket."""
    if request.param == "local":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"
