"""The bytes on disk: equal for every writer, flushed before they are named, and as many as announced."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_writing
import torch
import zarr
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.durable import DurableStore
from prepkd.store.encodings.f16 import F16
from prepkd.store.layout import Layout, chunk_length, manifest_of, open_array
from prepkd.views import ViewPlan
from store_checks import refused
from store_writing import ATTRIBUTES, LABELS, LAYOUT, answer, chunk_files, contents, open_writer, write
from zarr.storage import LocalStore


def test_two_runs_two_places_and_any_order_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one.zarr")
    expected = contents(tmp_path / "one.zarr")
    assert len(expected) == 3 * 9 + 6, "27 chunks, 4 zarr.json, the summary, the manifest"
    write(tmp_path / "elsewhere" / "two", order=lambda pending: reversed(pending))
    assert contents(tmp_path / "elsewhere" / "two") == expected
    write(tmp_path / "three", order=lambda pending: pending[1::2] + pending[::2])
    assert contents(tmp_path / "three") == expected


def test_writing_a_chunk_again_and_finishing_again_change_nothing(folder: Path) -> None:
    expected = contents(folder)
    writer = open_writer(folder)
    assert list(writer.pending()) == []
    writer.write(1, 2, answer(1, LAYOUT.slice(2)))
    assert writer.finish(LABELS) == writer.finish(LABELS)
    assert contents(folder) == expected


def test_a_store_holds_what_was_answered(folder: Path) -> None:
    store = LogitStore.open(folder)
    for view in range(3):
        offsets, row_max = store.slab(view)
        assert np.array_equal(offsets, answer(view, slice(0, 22))["logits"])
        assert np.array_equal(row_max, answer(view, slice(0, 22))["row_max"])
        params = open_array(zarr.open_group(folder, mode="r"), "params")[view]
        assert np.array_equal(np.asarray(params), LAYOUT.plan.parameters(view))


@pytest.mark.parametrize(
    ("recipe", "views", "samples", "classes", "chunk"),
    [
        ([{"crop": {"padding": 1}}, "flip"], 3, 22, 5, 8),
        ([{"crop": {"padding": 1}}], "all", 16, 3, 8),  # no short chunk
        ([{"crop": {"padding": 100}}], 2, 9, 2, 4),  # int16 parameters
        ([], "all", 10, 7, 10),  # no parameters, one chunk
    ],
)
def test_announced_bytes_are_those_on_disk(
    tmp_path: Path, recipe: list[Any], views: Any, samples: int, classes: int, chunk: int
) -> None:
    layout = Layout(ViewPlan(recipe, views, 0, samples), F16(classes), chunk)
    writer = open_writer(tmp_path / "store", layout)
    for view, number in writer.pending():
        shape = (layout.length(number), classes)
        zeros = {"logits": torch.zeros(shape).half(), "row_max": torch.zeros(shape[0])}
        writer.write(view, number, zeros)
    chunks = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert sum(path.stat().st_size for path in chunks) == layout.bytes
    # Without padding and checksums: the bytes per (view, sample).
    data = sum(array.nbytes for array in zarr.open_group(tmp_path / "store", mode="r").array_values())
    assert data == layout.plan.views * samples * layout.bytes_per_row


@pytest.mark.parametrize(
    ("samples", "chunk", "batch", "expected"),
    [(50000, 65536, 256, 50000), (50000, 1000, 256, 768), (22, 9, 4, 8), (22, 3, 4, 4), (3, 8, 8, 3), (50000, 1, 1, 1)],
)
def test_a_chunk_is_whole_batches_or_the_whole_view(samples: int, chunk: int, batch: int, expected: int) -> None:
    assert chunk_length(samples, chunk, batch) == expected
    layout = Layout(ViewPlan([], "all", 0, samples), F16(2), expected)
    slices = [layout.slice(k) for k in range(layout.chunks)]
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])]
    assert slices[-1].stop == samples
    assert [layout.length(k) for k in range(layout.chunks)] == [s.stop - s.start for s in slices]
    assert all(s.start % batch == 0 for s in slices)


def test_a_chunk_of_nothing_but_fill_values_is_written(tmp_path: Path) -> None:
    """Unless told at every open, Zarr omits such a chunk, and a commit record would be missing."""
    writer = open_writer(tmp_path / "store")
    nothing = {"logits": torch.full((6, 5), torch.nan).half(), "row_max": torch.full((6,), torch.nan)}
    writer.write(0, 2, nothing)
    assert all(path.is_file() for path in chunk_files(tmp_path / "store", 0, 2).values())
    assert not writer.done(0, 2), "NaN means missing"
    minimum = np.iinfo(LAYOUT.plan.dtype).min
    open_array(writer.group, "params")[1, 0:8] = np.full((8, 3), minimum)
    assert chunk_files(tmp_path / "store", 1, 0)["params"].is_file()
    plain = writer.group["params"]
    assert isinstance(plain, zarr.Array)
    plain[1, 8:16] = np.full((8, 3), minimum)
    assert not chunk_files(tmp_path / "store", 1, 1)["params"].exists(), "Zarr now persists it: open_array can go"
    for name in LAYOUT.fields:
        assert open_array(writer.group, name).async_array.config.write_empty_chunks


def test_fill_values_are_no_values() -> None:
    fields = LAYOUT.fields
    assert np.isnan(fields["logits"].fill)
    assert np.isnan(fields["row_max"].fill)
    assert fields["params"].fill == -128 < LAYOUT.plan.parameters(0).min()
    wide = Layout(ViewPlan([{"crop": {"padding": 64}}], 1, 0, 4), F16(2), 4)  # codes 0 to 128: one too many for int8
    assert wide.fields["params"].fill == -(2**15)


Event = tuple[str, ...]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Record every fsync (inode) and every rename (inode, inode of the folder, path)."""
    seen: list[Event] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        seen.append(("fsync", str(os.fstat(handle).st_ino)))

    def watched_replace(source: Path, target: Path) -> None:
        seen.append(
            ("rename", str(source.stat().st_ino), str(Path(target).parent.stat().st_ino), Path(target).as_posix())
        )
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return seen


def test_content_is_on_disk_before_its_name_and_the_name_before_the_next_step(
    tmp_path: Path, events: list[Event]
) -> None:
    write(tmp_path / "store")
    renames = [k for k, event in enumerate(events) if event[0] == "rename"]
    assert {events[k][3] for k in renames} == {str(tmp_path / "store" / path) for path in contents(tmp_path / "store")}
    for k in renames:
        _, file, parent, _ = events[k]
        assert ("fsync", file) in events[:k]
        assert events[k + 1] == ("fsync", parent)
    # The parent of each new folder is flushed before the first file in it gets its name.
    for made in [path for path in (tmp_path / "store").rglob("*") if path.is_dir()]:
        first = next(k for k in renames if Path(events[k][3]).is_relative_to(made))
        assert ("fsync", str(made.parent.stat().st_ino)) in events[:first]


def test_logits_are_a_chunks_last_file_and_the_manifest_the_stores(tmp_path: Path, events: list[Event]) -> None:
    write(tmp_path / "store")
    order = [Path(event[3]).relative_to(tmp_path / "store").as_posix() for event in events if event[0] == "rename"]
    assert order[0] == "zarr.json"
    assert sorted(order[1:4]) == ["logits/zarr.json", "params/zarr.json", "row_max/zarr.json"]
    expected = [
        f"{name}/c/{view}/{chunk}{tail}"
        for view in range(3)
        for chunk in range(3)
        for name, tail in (("params", "/0"), ("row_max", ""), ("logits", "/0"))
    ]
    assert order[4:] == [*expected, "summary.json", "manifest.json"]


def test_a_write_that_fails_leaves_the_old_chunk_and_no_other_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(folder)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    writer = open_writer(folder)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write(0, 0, {"logits": torch.zeros(8, 5).half(), "row_max": torch.zeros(8)})
    assert contents(folder) == expected


def test_the_writers_store_refuses_to_write_where_it_may_only_read(folder: Path) -> None:
    group = zarr.open_group(DurableStore(folder, read_only=True), mode="r")
    with pytest.raises(ValueError, match="read-only"):
        open_array(group, "row_max")[0, 0:8] = 0


def test_manifest_lists_every_file_but_itself_and_partial_ones(folder: Path) -> None:
    (folder / "logits" / "c" / "x.partial").write_bytes(b"torn")
    listed = manifest_of(LocalStore(folder), LAYOUT)
    assert list(listed) == sorted(listed)
    assert {*listed, "manifest.json", "logits/c/x.partial"} == set(contents(folder))


def test_a_folder_of_another_store_is_refused(folder: Path) -> None:
    expected = contents(folder)
    text = refused(InputError, open_writer, folder, fingerprints=ATTRIBUTES.fingerprints | {"split": "0"})
    assert text == f"{folder}: holds another store's chunks; remove it and run again"
    assert contents(folder) == expected


def test_finishing_too_early_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "store")
    for view, chunk in list(writer.pending())[:-1]:
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    text = refused(InputError, writer.finish, LABELS)
    assert text == f"{tmp_path / 'store'}: view 2, chunk 2 is not finished; run again to resume"
    assert not (tmp_path / "store" / "manifest.json").exists()
    text = refused(InputError, LogitStore.open, tmp_path / "store")
    assert text.endswith("no manifest.json, so there is no finished store; run `prepkd cache-logits NAME` again")


def test_summary_is_the_share_of_wrong_answers(folder: Path) -> None:
    wrong = [np.mean(answer(view, slice(0, 22))["logits"].numpy().argmax(1) != LABELS) for view in range(3)]
    assert store_writing.write(folder) == {
        "teacher_error": pytest.approx(np.mean(wrong)),
        "teacher_error_per_view": pytest.approx(wrong),
    }


def test_a_chunk_of_another_shape_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "store")
    for rows, classes in ((8, 7), (8, 4), (7, 5), (1, 5)):
        wrong = {"logits": torch.zeros(rows, classes).half(), "row_max": torch.zeros(rows)}
        with pytest.raises(InputError, match=r"has shape \(.*\); expected \(8"):
            writer.write(0, 0, wrong)
    assert not writer.done(0, 0)
