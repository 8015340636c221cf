"""A PyTorch dataset over a store: images under a view, with labels and the teacher's logits for exactly these pixels."""

import operator
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.models.logit_checks import ROWS, check_logits
from prepkd.provenance.stores import check_data, check_pixels
from prepkd.runtime.services import is_remote
from prepkd.store import LogitStore
from prepkd.store.encodings import LogitEncoding, add_maximum, as_tensors
from prepkd.views import ViewPlan
from prepkd.views.order import cycle, sample_order

REMEDY = "use the files that belong together, or run `prepkd cache-logits` again"

# Image float32 (C, H, W), label (of a mixed view the classes' shares, float32 (K,)), teacher's raw logits float32 (K,).
Item = tuple[Tensor, int | Tensor, Tensor]
# A sample under the data set's own view, or (sample, view).
Index = int | tuple[int, int]


class ViewDataset(Dataset[Item]):
    """Training samples under one view, each with its label and the teacher's logits for exactly these pixels.

    `dataset[sample]` and `dataset[sample, view]` are (image float32 (C, H, W) in [0, 1], not normalised; label, an int, or
    where the views mix samples a share of each class, float32 (K,); the teacher's raw logits float32 (K,)). `store` is a
    path or an fsspec URL (`options` go to fsspec). Files are opened in the process that reads them, so that workers may be
    forked or spawned; each keeps the images and one view's logits. Of a store with two kinds of views the weak ones are shown.
    Warns of answers that may not be logits. Raises InputError if the store was not made from this data or keeps a draw of the
    classes, if a view was not fetched, or if the answers are probabilities; IndexError for a sample or view out of range.
    """

    data: Path
    store: str
    options: dict[str, Any]
    classes: int
    plan: ViewPlan
    encoding: LogitEncoding

    def __init__(self, data: str | Path, store: str | Path, view: int = 0, **options: Any) -> None:
        # Absolute, since a worker may have another working directory.
        self.data = Path(data).absolute()
        self.store = str(store) if is_remote(store) else str(Path(store).absolute())
        self.options = options
        info = describe(self.data)
        self._split_fingerprint, self.classes = info.split_fingerprints["train"], len(info.class_names)
        self._count = info.splits["train"]
        self._fingerprints: dict[str, str] | None = None
        self._forget()
        opened = self._opened()
        self._fingerprints = opened.attributes.fingerprints
        self.plan, self.encoding = opened.plan.weak, opened.encoding
        if self.encoding.draws:
            raise InputError(
                f"{self.store}: encoding {self.encoding.name} keeps a draw of the classes with their weights, and an item has "
                "the logits of every class; learn from it with `prepkd distill`, or cache in another encoding"
            )
        if not 0 <= view < self.views:
            raise InputError(f"{self.store}: view is {view}, expected 0 to {self.views - 1}")
        self._view = view
        # Files are opened when they are read, so that forked workers inherit no handle.
        self._forget()

    def __repr__(self) -> str:
        return f"ViewDataset({str(self.data)!r}, {self.store!r}, view={self.view}): {len(self)} samples, {self.views} views"

    @property
    def view(self) -> int:
        """The view that `dataset[sample]` shows. Fixed: persistent workers have copies that would not see it change."""
        return self._view

    @property
    def views(self) -> int:
        """The number of views that the data set shows: all views of the store, or its weak ones."""
        return self.plan.views

    def __len__(self) -> int:
        return self.plan.samples

    def __getitem__(self, index: Index) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[Index]) -> list[Item]:
        """Return a batch, rendered at once, for torch's DataLoader; each view in it is read once."""
        addresses = np.array([self._address(index) for index in indices], dtype=np.int64).reshape(-1, 2)
        samples, views = addresses.T
        items: dict[int, Item] = {}
        for view in np.unique(views):
            here = np.flatnonzero(views == view)
            items |= zip(here.tolist(), self._shown(int(view), samples[here]), strict=True)
        return [items[position] for position in range(len(items))]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a spawned worker: the files' paths, without their content."""
        return self.__dict__ | {"_process": None, "_samples": None, "_slab": None, "_asked": False}

    def _forget(self) -> None:
        self._process: tuple[int, LogitStore] | None = None
        self._samples: Samples | None = None
        self._slab: tuple[int, NDArray[Any], dict[str, Tensor]] | None = None
        self._asked = False  # whether this process has checked that the answers are logits

    def _address(self, index: Index) -> tuple[int, int]:
        sample, view = index if isinstance(index, tuple) else (index, self._view)
        sample, view = operator.index(sample), operator.index(view)
        if not -len(self) <= sample < len(self):
            raise IndexError(f"sample {sample} is outside the data's {len(self)} samples")
        return sample % len(self), view

    def _shown(self, view: int, samples: NDArray[np.int64]) -> Iterator[Item]:
        rows, stored = self._read_slab(view)
        dataset, chosen = self._read_samples(), torch.from_numpy(samples)
        shown = self.plan, chosen, torch.from_numpy(rows[samples])
        logits = self._raw({name: array[chosen] for name, array in stored.items()})
        labels = dataset.targets(*shown, self.classes)
        answers = labels if self.plan.mix else labels.tolist()
        return zip(dataset.pixels(*shown).contiguous(), answers, logits, strict=True)

    def _read_slab(self, view: int) -> tuple[NDArray[Any], dict[str, Tensor]]:
        if self._slab is None or self._slab[0] != view:
            self._slab = None  # never two of them in memory
            self._slab = view, self.plan.parameters(view), as_tensors(self._opened().stored(view))
            if not self._asked:
                self._asked = True
                self._check_logits(self._slab[2])
        return self._slab[1:]

    def _raw(self, rows: dict[str, Tensor]) -> Tensor:
        """The teacher's logits (N, K) of stored rows."""
        return add_maximum(self.encoding.decode(rows))

    def _check_logits(self, stored: dict[str, Tensor]) -> None:
        """Check that the first rows are logits: refuse probabilities, warn in doubtful cases."""
        rows = {name: array[:ROWS] for name, array in stored.items()}
        if doubt := check_logits(self._raw(rows), self.store, error=self.encoding.largest_error(rows)):
            warnings.warn(doubt, stacklevel=2)

    def _read_samples(self) -> Samples:
        if self._samples is None:
            split = load_split(self.data, "train")
            self._check("dataset.split_fingerprint", self._split_fingerprint, split.fingerprint)
            samples = Samples.of(split, torch.device("cpu"), self.plan.recipe)
            check_pixels(self._opened(), samples)
            self._samples = samples
        return self._samples

    def _opened(self) -> LogitStore:
        """The store, opened in this process: fsspec's event loop does not survive a fork."""
        if self._process is None or self._process[0] != os.getpid():
            store = LogitStore.open(self.store, **self.options)
            check_data(store, self._split_fingerprint, self.classes, self._count, self.data, REMEDY)
            # If the store was replaced since the data set was made, or between two workers, one epoch would mix two teachers.
            for field, expected in (self._fingerprints or {}).items():
                self._check(f"fingerprints.{field}", store.attributes.fingerprints.get(field), expected)
            self._process = os.getpid(), store
        return self._process[1]

    def _check(self, field: str, found: object, expected: object) -> None:
        refuse_differences({field: (found, expected)}, f"{self.store} against {self.data}", REMEDY)


class ViewSampler(Sampler[tuple[int, int]]):
    """The (sample, view) of an epoch, in the order in which `distill` shows them to the student of this seed.

    The view changes with `set_epoch`, also for persistent workers, since each index carries its view.
    """

    dataset: ViewDataset
    seed: int
    epoch: int

    def __init__(self, dataset: ViewDataset, seed: int = 0) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __repr__(self) -> str:
        return f"ViewSampler({self.dataset!r}, seed={self.seed}): epoch {self.epoch}"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        samples = len(self.dataset)
        view = cycle(self.seed, self.epoch, self.dataset.views, samples)
        return ((sample, view) for sample in sample_order(self.seed, self.epoch, samples).tolist())

    def __len__(self) -> int:
        return len(self.dataset)
