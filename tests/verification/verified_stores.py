"""Digits, a teacher and its stores for `prepkd verify`, and copies of the stores with other rows."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import commands
import numpy as np
import torch
from click.testing import Result
from prepkd.data.prepared.file import load_split
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised, load_checkpoint
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import as_tensors
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.verification.live_teacher import verify_rows
from prepkd.verification.query import Query
from torch import Tensor

ENCODINGS = ["f16", "u8", "i16", "topk", "sampled"]
CPU = torch.device("cpu")
SETTINGS = dict(
    prepare__subset=20,
    augment="[{crop: {padding: 1}}, flip]",
    teachers__large__model="convnet16",
    teachers__large__epochs=3,
    cache__views=4,
    cache__batch_size=64,
    cache__topk__k=4,
    cache__sampled__n=5,
    distill__student="convnet4",
    distill__epochs=1,
    distill__seeds="[0]",
)
prepkd = partial(commands.prepkd, **SETTINGS)


def verify(store: str, *arguments: str, code: int, columns: int = 200) -> Result:
    """Run `prepkd verify`."""
    done = commands.invoke("verify", store, *arguments, columns=columns)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def opened(folder: Path, encoding: str = "f16") -> tuple[LogitStore, Normalised, Samples]:
    store = LogitStore.open(folder / encoding / "large.zarr")
    teacher, _ = load_checkpoint(folder / "models/teachers/large")
    return store, teacher, Samples.of(load_split(folder / "data/digits.h5", "train"), CPU)


def verified(store: LogitStore, teacher: Normalised, samples: Samples, *, count: int, seed: int) -> dict[str, Any]:
    """Return the verification as JSON."""
    return verify_rows(store, teacher, samples, count=count, seed=seed).as_json()


Change = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]


def rewritten(store: LogitStore, target: Path, change: Change, **sections: Any) -> LogitStore:
    """Write a finished copy of a store with changed rows, view by view; `sections` replace attributes."""
    attributes = Attributes.made_from(store.attributes.sections | sections)
    writer = StoreWriter(open_place(target, write=True), store.layout, attributes, target)

    for view, chunk in list(writer.pending()):
        stored, part = change(view, as_tensors(store.stored(view))), store.layout.slice(chunk)
        writer.write(view, chunk, {name: array[part] for name, array in stored.items()})
    writer.finish(np.zeros(store.samples, np.int64))
    return LogitStore.open(target)


def changed_section(store: LogitStore, section: str, **values: object) -> Attributes:
    """Return the store's attributes with other values in one section; the section's fingerprint is kept."""
    described = store.attributes.model_dump()
    return Attributes.model_validate(described | {section: described[section] | values})


def same(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored


def one_view_rolled(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Shift the rows of view 2 by one."""
    return {name: array.roll(1, dims=0) for name, array in stored.items()} if view == 2 else stored


def query(store: LogitStore, views: list[int], chosen: list[int]) -> Query:
    """Return a query of images whose pixels all equal their sample's index."""
    plain = Normalised(torch.nn.Identity(), Preprocessing((0.0,), (1.0,)))
    numbers = torch.arange(store.samples, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    samples = Samples(numbers, torch.zeros(store.samples, dtype=torch.int64))
    return Query.of(plain, store.plan, samples, np.array(views), np.array(chosen))


def shifted_maxima(view: int, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return stored | {"row_max": stored["row_max"] + 0.02}
