"""Reading a store: every byte is checked against the manifest before it becomes a number."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from prepkd.errors import InputError
from prepkd.store.layout import FORMAT, MANIFEST, SUMMARY
from prepkd.views import ViewPlan


class CheckedStore(WrapperStore[LocalStore]):
    """A store whose files must be the manifest's, byte for byte; a file that is missing or differs raises InputError."""

    def __init__(self, store: LocalStore, manifest: dict[str, str]) -> None:
        super().__init__(store)
        self.manifest = manifest

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The whole value of a key of the manifest; None for a key that is not in it, unless it is a chunk's."""
        if key not in self.manifest:
            if "/c/" in key:  # Zarr would take it for a chunk of nothing but fill values
                raise InputError(f"{self._store.root}: {key} is not in {MANIFEST}; run cache-logits")
            return None
        value = await super().get(key, prototype)
        if value is None:
            raise InputError(f"{self._store.root}: {key} is missing; fetch the store again, or run cache-logits")
        self.check(key, value.as_buffer_like())
        return value

    def check(self, key: str, content: bytes | bytearray | memoryview) -> None:
        """Refuse a file's content that is not the manifest's."""
        found, expected = hashlib.sha256(content).hexdigest(), str(self.manifest.get(key))
        if found != expected:
            raise InputError(
                f"{self._store.root}: {key}: sha256 is {found[:12]}, the manifest says {expected[:12]}; "
                "fetch the store again, or run cache-logits"
            )


class LogitStore:
    """A finished logit store: the teacher's logits for each (view, sample).

    `views`, `samples`, `classes` are its size, `plan` makes its views, `attributes` say where it came from, `summary`
    holds the teacher's error rate on the views. Open one with `LogitStore.open`.
    """

    def __init__(self, path: Path, group: zarr.Group, attributes: dict[str, Any], summary: dict[str, Any]) -> None:
        self.path, self.attributes, self.summary = path, attributes, summary
        self.plan = ViewPlan.from_description(attributes["views"])
        self._group = group
        self.views, self.samples, self.classes = (int(n) for n in self._array("logits").shape)

    @classmethod
    def open(cls, url: str | Path) -> "LogitStore":
        """Open a store for reading; raises InputError if it is missing, unfinished, damaged or of a newer format."""
        path = Path(url)
        if not path.is_dir():
            raise InputError(f"{path}: no such store; run `prepkd cache-logits NAME`")
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path}: no {MANIFEST}, so it was never finished; run `prepkd cache-logits NAME` again")
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            store = CheckedStore(LocalStore(path, read_only=True), manifest)
            group = zarr.open_group(store, mode="r", zarr_format=3)
            attributes: dict[str, Any] = dict(group.attrs)["prepkd"]  # type: ignore[assignment]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, FileNotFoundError) as error:
            raise InputError(f"{path}: not a logit store ({type(error).__name__}: {error})") from None
        if attributes["format"] != FORMAT:
            raise InputError(
                f"{path}: format is {attributes['format']}, this version of prepkd reads {FORMAT}; update prepkd"
            )
        absent = [key for key in (SUMMARY, *manifest) if not (path / key).is_file()]
        if absent:
            raise InputError(f"{path}: {absent[0]} is missing; fetch the store again, or run cache-logits")
        summary = (path / SUMMARY).read_bytes()
        store.check(SUMMARY, summary)
        return cls(path, group, attributes, json.loads(summary))

    def slab(self, view: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """One view as stored: z - max(z) in float16 (N, K) and max(z) in float32 (N,); raises InputError, IndexError.

        The view's parameters are recomputed from the plan and compared: logits of other pixels are never handed out.
        """
        rows = self.plan.parameters(view)
        if rows.shape[1] and not np.array_equal(self._array("params")[view], rows):
            raise InputError(f"{self.path}: params of view {view} differ from the plan's; run cache-logits again")
        return np.asarray(self._array("logits")[view]), np.asarray(self._array("row_max")[view])

    def logits(self, view: int) -> NDArray[np.float32]:
        """The teacher's raw logits of one view, float32 (N, K)."""
        offsets, row_max = self.slab(view)
        return offsets.astype(np.float32) + row_max[:, None]

    def lookup(self, views: NDArray[np.integer[Any]], samples: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The teacher's raw logits of (view, sample) pairs, both (B,): float32 (B, K); reads each view it meets once."""
        views, samples = np.asarray(views), np.asarray(samples)
        found = np.empty((len(views), self.classes), np.float32)
        for view in np.unique(views):
            here = views == view
            found[here] = self.logits(int(view))[samples[here]]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all slabs in memory, as stored."""
        return self.views * self.samples * (2 * self.classes + 4)

    def _array(self, name: str) -> "zarr.Array[Any]":
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array
