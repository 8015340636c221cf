"""The facts that `prepkd inspect` gives of a store: finished, unfinished, fetched in part, imported, or no store."""

from dataclasses import replace
from pathlib import Path

import pytest
from inspected import printed, read, with_attributes
from made_up_store import CLASSES, SAMPLES, VIEWS, MadeUp, write
from prepkd.errors import InputError
from prepkd.inspection.counts import count_views
from prepkd.inspection.logit_statistics import choose_views, logit_statistics
from prepkd.inspection.store_facts import ChunkCount, read_facts
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.store.attributes import FORMAT


def test_facts_of_a_finished_store(made: MadeUp) -> None:
    facts, store = read_facts(made.folder)
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    assert store is not None and facts.finished
    assert (facts.views, facts.samples, facts.classes) == (VIEWS, SAMPLES, CLASSES)
    assert facts.chunks == ChunkCount(9, 9) and facts.views_there == [0, 1, 2]
    assert facts.bytes == size
    assert facts.bytes_per_row.on_disk == size / (VIEWS * SAMPLES)
    assert facts.bytes_per_row.stated == store.attributes.measured.bytes_per_row
    assert facts.attributes == store.attributes


@pytest.mark.parametrize("chunks", [0, 4, 9])
def test_facts_of_an_unfinished_store(chunks: int, tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "i16", finish=False, chunks=chunks)
    facts, store = read_facts(made.folder)
    assert store is None and not facts.finished
    assert facts.chunks == ChunkCount(chunks, 9) and facts.views_there == list(range(chunks // 3))
    rows = {0: 0, 4: 22 + 8, 9: 66}[chunks]
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    assert facts.bytes_per_row.on_disk == (size / rows if rows else None)
    assert "UNFINISHED" in printed(StoreInspection(facts), 60)


def test_a_chunk_without_its_commit_record_is_not_there(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16", finish=False)
    (made.folder / "logits/c/1/2/0").unlink()
    assert read_facts(made.folder)[0].chunks == ChunkCount(8, 9)


def test_a_store_that_was_fetched_in_part(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16")
    (made.folder / "partial.json").write_text("{}")
    for path in made.folder.glob("*/c/1/*/*"):
        path.unlink()
    facts, store = read_facts(made.folder)
    assert store is not None and choose_views(None, store) == [0, 2]
    assert facts.chunks.there < 9 and facts.views_there == [0, 2]
    text = printed(StoreInspection(facts, logit_statistics(store, [0, 2], read(made), 4.0, "")), 60)
    assert "fetched in part: views 0,2 of 3" in " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither manifest.json nor zarr.json, so it is not a store of prepkd"),
        (
            '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
            "not a store of prepkd: zarr.json has no attributes `prepkd`",
        ),
        (
            '{"zarr_format": 3, "node_type": "group", "attributes": {"prepkd": {"format": 9}}}',
            f"format is 9, this version of prepkd reads {FORMAT}; update prepkd",
        ),
    ],
)
def test_what_is_no_store(content: str | None, message: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_facts(tmp_path)
    assert str(caught.value) == f"{tmp_path}: {message}"


def test_rows_are_checked_as_they_are_read(tmp_path: Path) -> None:
    made = write(tmp_path / "made-up.zarr", "f16")
    path = made.folder / "logits/c/1/2/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, store = read_facts(made.folder)
    assert store is not None
    count_views(store, [0, 2], None, [1.0])
    with pytest.raises(InputError, match=r"logits/c/1/2/0: sha256"):
        count_views(store, [1], None, [1.0])


def test_an_imported_store_says_what_is_not_known(f16: MadeUp) -> None:
    facts, _ = read_facts(f16.folder)
    source = {"file": "logits.npy", "sha256": "a" * 64}
    nobody = {"name": "theirs", "model": "imported", "weights_fingerprint": None, "preprocessing": None}
    facts = with_attributes(
        facts,
        teacher=nobody | {"source": source},
        precision={"arithmetic": "unknown", "batch_size": None, "device": "unknown"},
        unverified=["which teacher gave them"],
        measured=None,
    )
    words = " ".join(printed(StoreInspection(facts), 60).split())
    for part in (
        "weights not stated",
        "precision unknown format",
        "imported from logits.npy, sha256 aaaaaaaaaaaa",
        "UNVERIFIED which teacher gave them",
    ):
        assert part in words, words
    assert "None" not in words and "KL" not in words


def test_a_store_at_a_url(made: MadeUp) -> None:
    import fsspec

    url = f"memory://{made.store.encoding.name}/made-up.zarr"
    fsspec.filesystem("memory").put(f"{made.folder}/", url, recursive=True)
    there, store = read_facts(url)
    here, _ = read_facts(made.folder)
    assert store is not None
    assert there == replace(here, store=url)
    assert logit_statistics(store, [0, 1], read(made), 4.0, "") == logit_statistics(
        made.store, [0, 1], read(made), 4.0, ""
    )
