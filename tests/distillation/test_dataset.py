"""`ViewDataset`: exact items, in every kind of worker process, and a small pickle."""

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import elsewhere_files as files
import numpy as np
import pytest
import torch
from prepkd import LogitStore, ViewDataset, ViewSampler
from prepkd.data.prepared.file import load_split
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.views.order import cycle, sample_order
from torch import Tensor, nn
from torch.utils.data import DataLoader

SAMPLES, CLASSES, VIEWS = 40, 5, 3
RECIPE = [{"crop": {"padding": 2}}, "flip"]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def noise(seed: int = 5) -> RawData:
    """50 training images of 8 x 6 with 3 channels, 10 of which become `val`, and 10 test images."""
    random = np.random.default_rng(seed)
    return RawData(
        dataset="noise",
        train_images=random.integers(0, 256, (50, 8, 6, 3), dtype=np.uint8),
        train_labels=np.arange(50) % CLASSES,
        test_images=random.integers(0, 256, (10, 8, 6, 3), dtype=np.uint8),
        test_labels=np.arange(10) % CLASSES,
        class_names=tuple("abcde"),
        source="made up",
    )


@dataclass(frozen=True)
class Case:
    """Prepared data and its store, with every view's images, labels and logits computed without `ViewDataset`."""

    data: Path
    store: Path
    images: list[Tensor]
    labels: Tensor
    logits: list[Tensor]

    def check(self, view: int, samples: list[int], batch: Any) -> None:
        """Assert that a collated batch holds exactly these samples in this view."""
        images, labels, logits = batch
        assert torch.equal(images, self.images[view][samples]) and images.dtype == torch.float32
        assert torch.equal(labels, self.labels[samples]) and labels.dtype == torch.int64
        assert torch.equal(logits, self.logits[view][samples]) and logits.dtype == torch.float32


def case_of(folder: Path, **options: Any) -> Case:
    data = files.write_data(folder / "noise.h5", noise(), val_fraction=0.2)
    dataset = files.dataset_of(data, RECIPE, VIEWS)
    store = files.write_store(folder / "large.zarr", data, dataset, **options)
    raw = torch.from_numpy(load_split(data, "train").images).permute(0, 3, 1, 2)
    return Case(
        data,
        folder / "large.zarr",
        [store.plan.render(raw, torch.from_numpy(store.plan.parameters(view))) for view in range(VIEWS)],
        torch.from_numpy(load_split(data, "train").labels),
        [torch.from_numpy(store.logits(view)) for view in range(VIEWS)],
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("case"))


@pytest.fixture
def partial(case: Case, tmp_path: Path) -> Path:
    """A copy of the store without view 1."""
    folder = shutil.copytree(case.store, tmp_path / "partial.zarr")
    for view in folder.glob("*/c/1"):
        shutil.rmtree(view)
    (folder / "partial.json").write_text("{}")
    return folder


def collated(items: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
    images, labels, logits = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels), torch.stack(logits)


def test_one_sample(case: Case) -> None:
    dataset = ViewDataset(data=case.data, store=case.store, view=2)
    assert (len(dataset), dataset.views, dataset.view, dataset.classes) == (SAMPLES, VIEWS, 2, CLASSES)
    image, label, logits = dataset[17]
    assert type(label) is int
    assert image.shape == (3, 8, 6) and logits.shape == (CLASSES,) and image.is_contiguous()
    case.check(2, [17], collated([dataset[17]]))
    case.check(2, [39], collated([dataset[-1]]))
    case.check(1, [4, 3], collated([dataset[4, 1], dataset[np.int64(3), torch.tensor(1)]]))
    case.check(2, list(range(SAMPLES)), collated(list(dataset)))  # iterates by index until IndexError


def test_views_of_a_batch_may_differ(case: Case) -> None:
    dataset = ViewDataset(case.data, case.store)
    addresses = [(5, 2), (5, 0), 9, (39, 1), (0, 2), (5, 2)]
    items = dataset.__getitems__(addresses)
    for (sample, view), item in zip([(5, 2), (5, 0), (9, 0), (39, 1), (0, 2), (5, 2)], items, strict=True):
        case.check(view, [sample], collated([item]))
    assert dataset.__getitems__([]) == []


@pytest.mark.parametrize("encoding", ["u8", "i16", "topk"])
def test_every_encoding(encoding: str, tmp_path: Path) -> None:
    case = case_of(tmp_path, encoding=encoding)
    case.check(1, [3, 30, 8], collated(ViewDataset(case.data, case.store, 1).__getitems__([3, 30, 8])))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (40, "sample 40 is outside the data's 40 samples"),
        (-41, "sample -41 is outside the data's 40 samples"),
        ((0, 3), "views 3 to 3 are outside the plan's 3 views"),
        ((0, -1), "views -1 to -1 are outside the plan's 3 views"),
    ],
)
def test_what_is_outside(case: Case, index: Any, message: str) -> None:
    with pytest.raises(IndexError, match=f"^{message}$"):
        ViewDataset(case.data, case.store)[index]


def test_a_view_is_read_once_and_only_one_is_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = LogitStore.stored
    monkeypatch.setattr(LogitStore, "stored", lambda self, view: read.append(view) or original(self, view))
    dataset = ViewDataset(case.data, case.store, view=1)
    assert read == []
    for batch in DataLoader(dataset, batch_size=7, shuffle=True):
        assert len(batch[0]) in (7, 5)
    assert read == [1]
    dataset.__getitems__([(0, 2), (1, 0), (2, 2), (3, 0)])
    assert read == [1, 0, 2]
    assert dataset[0, 2] and dataset[0, 0]
    assert read == [1, 0, 2, 0]


def test_the_view_is_fixed(case: Case) -> None:
    with pytest.raises(AttributeError):
        ViewDataset(case.data, case.store).view = 1  # type: ignore[misc]


def test_what_travels_to_a_worker_is_small(case: Case) -> None:
    dataset = ViewDataset(case.data, case.store, view=1)
    before = pickle.dumps(dataset)
    case.check(1, [0], collated([dataset[0]]))
    after = pickle.dumps(dataset)
    assert after == before and len(after) < 3000
    case.check(1, [8], collated([pickle.loads(after)[8]]))  # noqa: S301 - written two lines above


def test_paths_outlive_a_change_of_folder(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.data.parent)
    dataset = ViewDataset("noise.h5", "large.zarr", view=1)
    monkeypatch.chdir(tmp_path)
    case.check(1, [0], collated([dataset[0]]))


def workers_of(dataset: ViewDataset, method: str, **options: Any) -> "DataLoader[Any]":
    return DataLoader(dataset, batch_size=16, num_workers=2, multiprocessing_context=method, **options)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_show_what_the_store_and_the_plan_say(case: Case, method: str) -> None:
    """Persistent workers give exact items in two epochs and views, although the parent has the store open before."""
    held = LogitStore.open(case.store)
    assert np.array_equal(held.logits(0), case.logits[0].numpy())
    dataset = ViewDataset(case.data, str(case.store))
    case.check(0, [0], collated([dataset[0]]))
    sampler = ViewSampler(dataset, seed=3)
    loader = workers_of(dataset, method, sampler=sampler, persistent_workers=True)
    assert len(loader) == 3
    shown = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        shown.append(cycle(3, epoch, VIEWS, SAMPLES))
        order = sample_order(3, epoch, SAMPLES).tolist()
        batches = list(loader)
        for start, batch in zip(range(0, SAMPLES, 16), batches, strict=True):
            case.check(shown[-1], order[start : start + 16], batch)
    assert len(set(shown)) == 2
    assert np.array_equal(held.logits(1), case.logits[1].numpy()), "the parent's own handle is still good"


def test_forked_workers_of_a_plain_loop(case: Case) -> None:
    """With one data set per epoch, shuffled by torch, workers give each sample once, in the epoch's view."""
    for epoch in range(2):
        dataset = ViewDataset(case.data, case.store, view=epoch % VIEWS)
        met = []
        for images, labels, logits in workers_of(dataset, "fork", shuffle=True):
            for image in images:
                (sample,) = torch.nonzero((case.images[epoch] == image).all(dim=(1, 2, 3))).flatten().tolist()
                met.append(sample)
            case.check(epoch, met[-len(images) :], (images, labels, logits))
        assert sorted(met) == list(range(SAMPLES)) and met != sorted(met)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a local S3 server without buckets."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_forked_workers_read_a_bucket_that_the_parent_has_open(case: Case, bucket: str) -> None:
    """Workers open their own client: the parent's needs an event loop, whose thread does not survive the fork."""
    import s3fs

    files_there = s3fs.S3FileSystem(endpoint_url=bucket)
    files_there.mkdir("shared-stores")
    files_there.put(str(case.store), "shared-stores/large.zarr", recursive=True)
    dataset = ViewDataset(case.data, "s3://shared-stores/large.zarr", view=1, endpoint_url=bucket)
    case.check(2, [7], collated([dataset[7, 2]]))  # view 1 is left for the workers to read
    for start, batch in zip(range(0, SAMPLES, 16), workers_of(dataset, "fork"), strict=True):
        case.check(1, list(range(SAMPLES))[start : start + 16], batch)
    case.check(0, [7], collated([dataset[7, 0]]))


def test_a_view_that_was_not_fetched(case: Case, partial: Path) -> None:
    dataset = ViewDataset(case.data, partial, view=1)
    case.check(2, [3], collated([dataset[3, 2]]))
    wanted = r"view 1 was not fetched; `prepkd fetch-views URL --select 1` brings it"
    with pytest.raises(InputError, match=wanted):
        assert dataset[0]
    # A worker's error reaches the parent with text and type. One worker: torch takes 5 s to end each one after an error.
    with pytest.raises(InputError, match=wanted):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


def test_views_are_checked_at_once(case: Case) -> None:
    for view in (-1, VIEWS):
        with pytest.raises(InputError, match=f"large.zarr: view is {view}, expected 0 to 2$"):
            ViewDataset(case.data, case.store, view=view)


def test_other_data_and_other_classes(case: Case, tmp_path: Path) -> None:
    other = files.write_data(tmp_path / "other.h5", noise(6), val_fraction=0.2)
    with pytest.raises(
        InputError, match=r"large.zarr against .*other.h5: dataset.split_fingerprint is \w{12}, expected"
    ):
        ViewDataset(other, case.store)
    # Without val, which needs images of every class.
    five = files.write_data(tmp_path / "five.h5", noise())
    store = files.write_store(tmp_path / "five.zarr", five, files.dataset_of(five, [], 1)).url
    six = files.write_data(tmp_path / "six.h5", replace(noise(), class_names=tuple("abcdef")))
    assert len(ViewDataset(five, store)) == 50
    with pytest.raises(InputError, match=r"five.zarr against .*six.h5: dataset.classes is 5, expected 6"):
        ViewDataset(six, store)
    with pytest.raises(InputError, match=r"none.h5: no such file; run `prepkd prepare`"):
        ViewDataset(tmp_path / "none.h5", case.store)
    with pytest.raises(InputError, match=r"none.zarr: no such store"):
        ViewDataset(case.data, tmp_path / "none.zarr")


def test_files_that_change_between_construction_and_reading(case: Case, tmp_path: Path) -> None:
    data, store = tmp_path / "noise.h5", tmp_path / "large.zarr"
    shutil.copy(case.data, data)
    shutil.copytree(case.store, store)
    dataset = ViewDataset(data, store)
    shutil.rmtree(store)
    files.write_store(store, data, files.dataset_of(data, RECIPE, VIEWS, seed=8))
    with pytest.raises(InputError, match=r"fingerprints.pixels is \w{12}, expected"):
        assert dataset[0]
    dataset = ViewDataset(data, store)
    files.write_data(data, noise(6), val_fraction=0.2)
    with pytest.raises(InputError, match=r"dataset.split_fingerprint is"):
        assert dataset[0]


def answering(case: Case, folder: Path, ending: nn.Module) -> ViewDataset:
    """A data set over a store of the usual teacher with `ending` after its last layer."""
    dataset = files.dataset_of(case.data, RECIPE, VIEWS)
    teacher = files.teacher_of(dataset)
    teacher.body = nn.Sequential(teacher.body, ending)
    files.write_store(folder / "other.zarr", case.data, dataset, teacher=teacher)
    return ViewDataset(case.data, folder / "other.zarr")


def test_probabilities_in_a_store_are_refused_and_doubtful_values_warned_of(case: Case, tmp_path: Path) -> None:
    dataset = answering(case, tmp_path / "softmax", nn.Softmax(dim=-1))
    with pytest.raises(InputError, match=r"other.zarr: no value is negative and every row's sum is at most 1: probab"):
        dataset[0]
    for ending, message in ((nn.Softplus(), "no value of 40 rows is negative"), (nn.LogSoftmax(-1), "log-probabil")):
        dataset = answering(case, tmp_path / type(ending).__name__, ending)
        with pytest.warns(UserWarning, match=message):
            dataset[0]
        dataset[1, 2]  # the warning comes once


def test_its_text_says_what_it_is(case: Case) -> None:
    dataset = ViewDataset(case.data, case.store, view=2)
    assert repr(dataset) == f"ViewDataset({str(case.data)!r}, {str(case.store)!r}, view=2): 40 samples, 3 views"
    assert repr(dataset.plan) == f"ViewPlan({[{'crop': {'padding': 2}}, {'flip': {}}]!r}, views=3, seed=7, samples=40)"
    assert repr(LogitStore.open(case.store)) == (
        f"LogitStore({str(case.store)!r}: 3 views x 40 samples x 5 classes, f16, teacher 'large', 'noise')"
    )
    sampler = ViewSampler(dataset, seed=4)
    sampler.set_epoch(3)
    assert repr(sampler) == f"ViewSampler({dataset!r}, seed=4): epoch 3"


def test_pixels_that_are_rendered_otherwise(case: Case, tmp_path: Path) -> None:
    """A store whose pixel checksum differs from these views is refused, although its other fingerprints agree."""
    dataset = files.dataset_of(case.data, RECIPE, VIEWS)
    mirrored = replace(dataset.samples, images=dataset.samples.images.flip(-1))
    files.write_store(tmp_path / "other.zarr", case.data, replace(dataset, samples=mirrored))
    with pytest.raises(InputError, match=r"pixels.sha256 is \w{12}, expected \w{12}"):
        ViewDataset(case.data, tmp_path / "other.zarr")[0]
