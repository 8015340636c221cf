"""Unpickling: CIFAR's arrays are read, and nothing is executed."""

import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import preloaded
import pytest
from crafted_cifar import content
from prepkd.data.sources.unpickle import unpickle
from prepkd.errors import InputError


def test_bytes_of_python_2_are_read(tmp_path: Path) -> None:
    # As in the official files: keys, names and pixels are Python 2 strings (opcode U), a global is old, `align` an integer.
    old = (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\x00\xfftbU\x05names](U\x03\xe9teeu."
    )
    entry = unpickle(old, tmp_path)
    assert isinstance(entry["data"], np.ndarray)
    assert entry["data"].tolist() == [[0, 255]]
    assert entry["data"].dtype == np.uint8
    assert entry["names"] == [b"\xe9te"]


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_todays_numpy_are_read_too(protocol: int, order: str, tmp_path: Path) -> None:
    array = np.array(np.arange(12).reshape(3, 4), dtype=np.uint8, order=order)  # type: ignore[call-overload]
    entry = unpickle(pickle.dumps({"data": array}, protocol=protocol), tmp_path)
    assert np.array_equal(entry["data"], array)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "codecs.encode"])
def test_other_globals_are_refused_even_where_they_look_harmless(name: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(InputError, match=rf"the pickle asks for {re.escape(name)}; expected plain lists and arrays"):
        unpickle(f"c{module}\n{attribute}\n.".encode(), tmp_path)


def test_a_forged_dtype_cannot_turn_bytes_into_pointers(tmp_path: Path) -> None:
    forged = pickle.dumps({"data": np.array([None])}, protocol=2)
    with pytest.raises(InputError, match=r"an array of .*O8.*, not uint8"):
        unpickle(forged, tmp_path)


def test_a_pickle_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = content(data=np.zeros((2, 3), np.uint8), fine_labels=[0, 1])
    for end in range(len(whole)):
        with pytest.raises(InputError, match=rf"{tmp_path}/f: not a whole pickle of CIFAR data: .*put the official"):
            unpickle(whole[:end], tmp_path / "f")


DAMAGE = """
import pickle, resource
import numpy as np, numpy.random
from pathlib import Path
from prepkd.data.sources.unpickle import unpickle
from prepkd.errors import InputError

resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))  # a damaged memo index asks for gigabytes
whole = pickle.dumps({"data": np.zeros((2, 3), np.uint8), "fine_labels": [0, 1]}, protocol=2)
words = np.random.Philox(key=0).random_raw(3000).tolist()
refused = 0
for where, what in zip(words[::2], words[1::2]):
    damaged = bytearray(whole)
    damaged[where % len(whole)] = what % 256
    try:
        unpickle(bytes(damaged), Path("f"))
    except InputError as error:
        assert "\\n" not in str(error)
        refused += 1
print(refused)
"""


def test_a_damaged_byte_is_read_or_refused_and_nothing_else() -> None:
    done = subprocess.run(
        [preloaded.commands() / "python", "-W", "error", "-c", DAMAGE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 500 < int(done.stdout) < 1500


def test_garbage_is_refused(tmp_path: Path) -> None:
    for body in (b"", b"not a pickle", bytes(1000), pickle.dumps([1, 2]), pickle.dumps({"data": 1})[1:]):
        with pytest.raises(InputError, match="not a whole pickle of CIFAR data"):
            unpickle(body, tmp_path)
