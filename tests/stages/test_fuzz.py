"""Every command under hostile arguments, settings and files: success, or exit code 2 with one line.

`PREPKD_FUZZ=20000 pytest tests/stages/test_fuzz.py` tries that many inputs of each kind, drawn anew; the suite tries
the same few.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT
from elsewhere_files import write_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepkd.cli import COMMANDS, app
from prepkd.data.sources import SOURCES
from prepkd.models.checkpoint import FORMAT, write_card
from ruamel.yaml import YAML
from safetensors.torch import save
from typer.main import get_command
from typer.testing import CliRunner, Result

MANY = os.environ.get("PREPKD_FUZZ")
FUZZ = settings(
    max_examples=int(MANY or 30),
    derandomize=not MANY,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def keys(section: object, above: str = "") -> Iterator[str]:
    """Yield every dotted key of nested settings."""
    if isinstance(section, dict):
        for name, inner in section.items():
            yield f"{above}{name}"
            yield from keys(inner, f"{above}{name}.")


KEYS = sorted(keys(YAML(typ="safe").load(ROOT / "params.yaml")))
# YAML values. None uses a network protocol: another test covers those.
VALUES = [
    "null", "''", "-1", "0", "1", "1.5", "1e400", ".nan", "-.inf", "true", "9223372036854775808",
    "18446744073709551616",
    "'9999999999999999999999'", "9" * 5000, "0x" + "f" * 5000, "[]", "{}", "[[]]", "[null]", "[1, a, {b: c}]",
    "{a: {b: c}}",
    "2001-01-01", "2001-13-45", "!!python/object:os.system x", "!!binary aGk=", "!!set {a}", "!x y", "&a [*a]",
    "[[[[[[[[", "'", "@",
    "..", "../..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", '"a\\0b"', '"\\x1b[2J"', '"\\ud800"',
    "a" * 5000, "a/" * 3000, "[/red]",
    "memory://user:secret@x", "nosuch://x?sig=secret", "file:///x", "http", "://", "kd", "ka-ps+dtd-flsw",
    "ka-ps+ka-lsr", "kd,ce_weight=0",
    "convnet4", "timm:", "torchvision:resnet18:", "os:system", "sys:exit", "no.such:factory", "digits",
    "folder", "h5", "[flip, flip]",
    "[{crop: {padding: 1000000000}}]", "[{crop: {padding: -1}}]", "[{mixup: null}]",
    "[{resized-crop: {size: 0}}]", "all", "auto",
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=12)
VALUE = st.one_of(st.sampled_from(VALUES), st.integers().map(str), TEXTS)
KEY = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: f"{key}.x"), TEXTS)
# Seldom what the parser refuses at once: the rest is what is tried.
CHANGE = st.sampled_from([st.builds("{}={}".format, KEY, VALUE)] * 9 + [TEXTS]).flatmap(lambda chosen: chosen)
CHANGES = st.lists(CHANGE, min_size=1, max_size=3)
# Paths and names passed to a command as a file, a store or a folder.
PLACES = ["here", "gone", "empty", "folder", "bytes.h5", "bytes.npy", "bytes.pt", "bytes.safetensors",
    "store.zarr", "fifo", "/dev/null",
          "data/logits/large.zarr", "models/teachers/large", "nosuch://key:secret@x", "memory://x.zarr",
          "a" * 300, "params.yaml"]  # fmt: skip
PLACE = st.sampled_from(PLACES) | TEXTS
ARGUMENTS: dict[str, list[st.SearchStrategy[str]]] = {
    "train-teacher": [st.sampled_from(["large", "small", "huge", ""]) | TEXTS],
    "train-generation": [st.sampled_from(["large", "first", ""]) | TEXTS],
    "cache-logits": [st.sampled_from(["large", "small", "huge", ""]) | TEXTS],
    "verify": [PLACE],
    "export": [PLACE],
    "predict": [PLACE],
    "inspect": [PLACE],
    "fetch-views": [PLACE],
    "import": [PLACE, st.sampled_from(["mine", "../x"]) | TEXTS],
    "init": [st.sampled_from(["folder", "bytes.h5", "new/one", "a" * 300])],
}
NUMBER = st.integers().map(str) | st.sampled_from(["9" * 5000, "nan", "inf", "1e400", ""]) | TEXTS
OPTIONS: dict[str, st.SearchStrategy[str]] = {
    "--run": VALUE, "--teacher": VALUE, "--student": VALUE, "--method": VALUE, "--teachers": VALUE,
    "--dataset": VALUE, "--raw": VALUE, "--select": NUMBER,
    "--views": NUMBER, "--tau": NUMBER, "--seed": NUMBER, "--seeds": NUMBER, "--samples": NUMBER, "--epochs": NUMBER,
    "--recipe": st.sampled_from(["[]", "[" * 5000, "{}", "[1]", '["flip"]', "[" + "9" * 5000 + "]",
    '[{"crop": {"padding": 1e400}}]']) | TEXTS,
    "--data": PLACE, "--out": st.sampled_from(["out", "bytes.h5"]), "--to": PLACE, "--encoding": VALUE,
    "--json": st.just(""),
    "--model": PLACE, "--top": NUMBER, "--max-drop": NUMBER, "--calibration-images": NUMBER, "--name": PLACE,
    "--integrity": st.just(""), "--int8": st.just(""), "--csv": st.just(""),
    "--source": VALUE, "--help": st.just(""), "--no-such": VALUE,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Create a project with damaged files of several kinds; no model in it can be trained for long."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for name in ("empty", "data/logits/large.zarr/c/0", "models/teachers/large", "store.zarr", "folder"):
        (folder / name).mkdir(parents=True)
    for name in ("bytes.h5", "bytes.npy", "bytes.pt", "bytes.safetensors", "folder/x", "data/digits.h5"):
        (folder / name).write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 100)
    write_card(folder / "models/teachers/large", {"format": FORMAT, "model": 3})
    (folder / "store.zarr/zarr.json").write_text(
        '{"zarr_format": 3, "node_type": "group", "attributes": {"prepkd": {"format": 2}}}'
    )
    (folder / "store.zarr/manifest.json").write_text("{}")
    (folder / "data/logits/large.zarr/zarr.json").write_text("[1]")
    os.mkfifo(folder / "fifo")
    write_data(folder / "sound.h5", SOURCES["digits"].read(Path()), subset=1)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "set_num_threads", lambda count: None)  # this process keeps its threads
        patched.setenv("PREPKD_SCRATCH", str(folder / "scratch"))
        yield folder


def run(*arguments: str) -> Result:
    """Run a command in this process; it must succeed, or fail with one line or the usage."""
    done = CliRunner().invoke(app, arguments)
    said = f"prepkd {arguments!r}: exit code {done.exit_code}: {done.stdout}{done.stderr}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(said) from done.exception
    lines = done.stderr.splitlines()
    refused = len(lines) == 1 and lines[0].startswith("error: ")
    usage = done.stderr.startswith(("Usage: ", "╭─ Error"))  # the latter for an option without its argument
    fails = done.exit_code == 1 and arguments[0] == "doctor" and lines[-1].startswith("error: ")
    assert done.exit_code == 0 or (done.exit_code == 2 and (refused or usage)) or fails, said
    assert "secret" not in done.stderr.replace("where secrets stand", "") or usage, said
    return done


@FUZZ
@given(st.sampled_from(sorted(set(COMMANDS) - {"methods", "schema", "init"})), CHANGES, st.data())
def test_settings(project: Path, command: str, changes: list[str], data: st.DataObject) -> None:
    arguments = [data.draw(one) for one in ARGUMENTS.get(command, [])]
    if command in ("verify", "fetch-views", "export", "predict"):  # these commands read no settings
        command, arguments = "prepare", []
    run(command, *(part for change in changes for part in ("-S", change)), "--", *arguments)


@FUZZ
@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_arguments(project: Path, command: str, data: st.DataObject) -> None:
    arguments = [data.draw(one) for one in ARGUMENTS.get(command, [])]
    options = ["--no-git"] if command == "init" else []
    known = {name for one in get_command(app).commands[command].params for name in one.opts}  # type: ignore[attr-defined]
    own, any_one = (st.sampled_from(sorted(names)) for names in (OPTIONS.keys() & known or OPTIONS, OPTIONS))
    one = st.sampled_from([own] * 9 + [any_one]).flatmap(lambda chosen: chosen)
    for name in data.draw(st.lists(one, max_size=3)):
        options += [name, *filter(None, [data.draw(OPTIONS[name])])]
    run(command, *options, *arguments)


@FUZZ
@given(
    st.binary(max_size=60)
    | TEXTS.map(str.encode)
    | st.lists(st.tuples(st.integers(0, 6000), st.binary(max_size=4)), max_size=6)
)
def test_a_settings_file(project: Path, content: bytes | list[tuple[int, bytes]]) -> None:
    """The file holds random bytes, or the project's settings with some bytes changed."""
    if isinstance(content, list):
        edited = bytearray((ROOT / "params.yaml").read_bytes())
        for place, new in content:
            edited[place : place + len(new)] = new
        content = bytes(edited)
    (project / "fuzzed.yaml").write_bytes(content)
    run("gather", "--params", "fuzzed.yaml")


@FUZZ
@given(
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=4)), max_size=4),
    st.sampled_from(["bytes.npy", "bytes.pt", "bytes.safetensors"]),
)
def test_a_file_of_logits(project: Path, edits: list[tuple[int, bytes]], name: str) -> None:
    content = bytearray(LOGITS[name])
    for place, new in edits:
        content[place : place + len(new)] = new
    (project / f"fuzzed-{name}").write_bytes(content)
    done = run("import", f"fuzzed-{name}", "mine", "--data", "sound.h5", "--to", "out.zarr", "--replace")
    assert done.exit_code == 0 or edits


def _logits() -> dict[str, bytes]:
    values, npy, pt = torch.randn(10, 10), io.BytesIO(), io.BytesIO()
    np.save(npy, values.numpy())
    torch.save(values, pt)
    return {"bytes.npy": npy.getvalue(), "bytes.pt": pt.getvalue(), "bytes.safetensors": save({"x": values})}


LOGITS = _logits()
