"""docs/reference/store-format.md is enough to write a reader: the page's reader is run with only zarr and numpy."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.attributes import FORMAT
from prepkd.store.documents import LIMITS, parse_manifest, read_document
from prepkd.store.encodings import ENCODINGS, Encoding
from prepkd.store.encodings.f16 import F16
from prepkd.store.encodings.i16 import I16
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.topk import TopK
from prepkd.store.encodings.u8 import U8
from prepkd.store.layout import MAX_FILES, Layout
from prepkd.store.place import put
from prepkd.views import ViewPlan
from store_writing import PLAN, chunk_files, write
from zarr.storage import MemoryStore

PAGE = (ROOT / "docs/reference/store-format.md").read_text()
(READER,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
ALL: dict[str, Encoding] = {"f16": F16(5), "u8": U8(5), "i16": I16(5), "topk": TopK(5, k=2), "sampled": Sampled(5, n=3)}


def read_as_a_stranger(folder: Path, views: int, output: Path, *, code: int = 0) -> str:
    """Run the page's reader in a process of its own, where prepkd and torch cannot be imported."""
    script = (
        "import sys\n"
        "sys.modules['prepkd'] = sys.modules['torch'] = None\n"
        f"{READER}\n"
        f"np.save({str(output)!r}, np.stack([read_view({str(folder)!r}, view) for view in range({views})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_pages_reader_reads_every_encoding(name: str, tmp_path: Path) -> None:
    write(tmp_path / "store", layout=Layout(PLAN, ALL[name], 8))
    read_as_a_stranger(tmp_path / "store", 3, tmp_path / "read.npy")
    store = LogitStore.open(tmp_path / "store")
    found = np.load(tmp_path / "read.npy")
    assert found.dtype == np.float32
    assert np.array_equal(found, np.stack([store.logits(view) for view in range(3)]))


def test_a_manifest_is_bounded_and_so_are_the_files_that_it_lists() -> None:
    most = Layout(ViewPlan([{"crop": {"padding": 4}}], 87_000, 0, 65_536), F16(5), 65_536)
    longest = max(len(key) for key in list(most.keys(86_999, 0).values()))
    assert MAX_FILES * (longest + 64 + 12) < LIMITS["manifest.json"]
    with pytest.raises(InputError, match=r"are 1,\d+,\d+ files; expected <= 524,288: larger chunks, or fewer views"):
        Layout(ViewPlan([{"crop": {"padding": 4}}], 9, 0, 50_000), F16(5), 1)
    endless = MemoryStore()
    put(endless, "manifest.json", b"[" + b"1," * 2**25 + b"1]")
    content = read_document(endless, "manifest.json")
    assert content is not None and len(content) == 2**26 + 1
    with pytest.raises(InputError, match="it has more than 67,108,864 bytes"):
        parse_manifest(content, "here")


def test_the_pages_reader_finds_a_swapped_chunk(folder: Path, tmp_path: Path) -> None:
    one, other = (chunk_files(folder, view, 0)["logits"] for view in (0, 1))
    one.write_bytes(other.read_bytes())
    text = read_as_a_stranger(folder, 1, tmp_path / "read.npy", code=1)
    assert "logits/c/0/0/0 is damaged" in text


def test_the_page_names_the_format_and_every_section(folder: Path) -> None:
    assert PAGE.startswith(f"# The logit store, format {FORMAT}\n")
    attributes = json.loads((folder / "zarr.json").read_text())["attributes"]["prepkd"]
    for key in (*attributes, "measured", "pixels"):
        assert f"| `{key}` |" in PAGE
    for encoding in ALL.values():
        assert f"| `{encoding.name}` |" in PAGE
        for array in encoding.fields:
            assert f"`{array}`" in PAGE
