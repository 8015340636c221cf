"""Writing a store: chunk by chunk, resumable, committed by its manifest."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from prepkd.errors import InputError
from prepkd.files import canonical_json, write_json
from prepkd.store.durable import DurableStore
from prepkd.store.layout import (
    MANIFEST,
    PIPELINE,
    SUMMARY,
    Layout,
    create,
    manifest_of,
    open_array,
    wrong_share,
)

# (view, samples) -> encoded logits float16 (n, K), row maxima float32 (n,)
Answer = Callable[[int, slice], tuple[NDArray[np.float16], NDArray[np.float32]]]


class StoreWriter:
    """An unfinished store in a folder; creating one over an existing folder goes on where that was left.

    Raises InputError where the folder holds a store of other attributes.
    """

    def __init__(self, folder: Path, layout: Layout, attributes: dict[str, Any]) -> None:
        self.folder, self.layout = folder, layout
        store = DurableStore(folder)
        # The descriptions are written before the first chunk; without all of them there is nothing to resume.
        if not all((folder / name / "zarr.json").is_file() for name in ("", *layout.arrays())):
            shutil.rmtree(folder, ignore_errors=True)
            with zarr.config.set({"codec_pipeline.path": PIPELINE}):
                create(store, layout, attributes)
        self.group = zarr.open_group(store, mode="r+", zarr_format=3)
        found = self.group.attrs.asdict().get("prepkd")
        if canonical_json(found) != canonical_json(attributes):
            raise InputError(f"{folder}: holds another store's chunks; remove the folder and run again")

    def done(self, view: int, chunk: int) -> bool:
        """Whether a chunk is finished: its logits file, written last, is there, and all of it reads back."""
        return self._finished(view, chunk) is not None

    def pending(self) -> Iterator[tuple[int, int]]:
        """The (view, chunk) pairs that are still to be written, in order."""
        for view in range(self.layout.plan.views):
            for chunk in range(self.layout.chunks):
                if not self.done(view, chunk):
                    yield view, chunk

    def write(self, view: int, chunk: int, answer: Answer) -> None:
        """Compute and write one chunk: parameters and row maxima first, the logits last, as the commit record."""
        samples = self.layout.slice(chunk)
        offsets, row_max = answer(view, samples)
        with zarr.config.set({"codec_pipeline.path": PIPELINE}):
            if self.layout.plan.ranges:
                open_array(self.group, "params")[view, samples] = self.layout.plan.parameters(view, samples)
            open_array(self.group, "row_max")[view, samples] = row_max
            open_array(self.group, "logits")[view, samples] = offsets

    def finish(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Re-read every chunk, write the summary and then the manifest; returns the summary. Idempotent.

        Raises InputError where a chunk is not finished.
        """
        errors: list[float] = []
        for view in range(self.layout.plan.views):
            wrong = 0.0
            for chunk in range(self.layout.chunks):
                offsets = self._finished(view, chunk)
                if offsets is None:
                    raise InputError(f"{self.folder}: view {view}, chunk {chunk} is not finished; run again to resume")
                wrong += wrong_share(offsets, labels[self.layout.slice(chunk)]) * len(offsets)
            errors.append(wrong / self.layout.plan.samples)
        summary = {"teacher_error": float(np.mean(errors)), "teacher_error_per_view": errors}
        write_json(self.folder / SUMMARY, summary)
        for leftover in self.folder.rglob("*.partial"):
            leftover.unlink()
        write_json(self.folder / MANIFEST, manifest_of(self.folder))
        return summary

    def _finished(self, view: int, chunk: int) -> NDArray[np.float16] | None:
        """A finished chunk's encoded logits; None where a file of it is missing or damaged, or is of another view."""
        if not (self.folder / "logits" / "c" / str(view) / str(chunk) / "0").is_file():
            return None
        part = view, self.layout.slice(chunk)
        try:
            stored = {name: np.asarray(open_array(self.group, name)[part]) for name in self.layout.arrays()}
        except (ValueError, OSError):  # a checksum that fails, a file that is cut short
            return None
        if np.isnan(stored["logits"]).any() or np.isnan(stored["row_max"]).any():
            return None
        if "params" in stored and not np.array_equal(stored["params"], self.layout.plan.parameters(*part)):
            return None
        return stored["logits"]
