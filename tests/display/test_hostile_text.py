"""Foreign text in prepkd's output: control characters, secrets in URLs, terminals that lack characters."""

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepkd import cli
from prepkd.display.console import TextConsole
from prepkd.display.text import csv_cell, printable
from prepkd.errors import InputError, one_line, without_secrets
from prepkd.stages import _console
from rich.progress import Progress
from rich.table import Table
from typer.testing import CliRunner

ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=40)


@given(ANYTHING)
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert all(one.isprintable() or one in "\u200c\u200d" for one in shown)
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


@given(ANYTHING)
def test_a_cell_is_neither_a_formula_nor_markup(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@")) and cell.isprintable() | (
        "\u200c" in cell or "\u200d" in cell
    )
    assert not any(f"<{one}" in cell for one in "/!?aZ")


SECRETS = {
    "s3://AKIA123:wJalr/K7+bPx@bucket/x.zarr": "s3://***@bucket/x.zarr",
    "s3://AKIA123:p@ss@bucket/x.zarr": "s3://***@bucket/x.zarr",
    "https://token@host/x": "https://***@host/x",
    "http://user:password@host:8080/a/b": "http://***@host:8080/a/b",
    "https://host/x.zarr?X-Amz-Signature=abc&X-Amz-Credential=d/e": "https://host/x.zarr?***",
    'https://u:p"SECRET@host/x': "https://***@host/x",
    "https://u:p'SEC RET@host/x": "https://***@host/x",
    "https://host/x;sig=SECRET": "https://host/x;***",
    "https://host/x#token=SECRET": "https://host/x#***",
    'https://host/x?sig="SECRET"&b=c': "https://host/x?***",
    "https://host:8080/a@2/b": "https://host:8080/a@2/b",
    "s3://bucket/x@2.zarr": "s3://bucket/x@2.zarr",
    "data/logits/x@y.zarr": "data/logits/x@y.zarr",
    "/a/b?c": "/a/b?c",
}


@pytest.mark.parametrize(("url", "shown"), SECRETS.items())
def test_secrets_of_urls_are_not_shown(url: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert without_secrets(url) == shown == without_secrets(shown)
    assert str(InputError(f"{url}: cannot be opened")).startswith(shown)
    out = io.StringIO()
    TextConsole(file=out, width=200).print(f"{url} is there")
    assert out.getvalue() == f"{shown} is there\n"
    _console.print_json({"store": url})
    assert capsys.readouterr().out == f'{{\n  "store": "{shown}"\n}}\n'


REPEATED = {
    's3://AKIA:SECRETPW@b/x: Invalid bucket name "AKIA:SECRETPW@b"': 's3://***@b/x: Invalid bucket name "***@b"',
    "s3://:SECRETPW@b/x: no bucket :SECRETPW@b": "s3://***@b/x: no bucket ***@b",
    "https://u:SECRET%2FPW@h/x: login u, SECRET/PW": "https://***@h/x: login u, ***",
    "https://u:abc@h/x: 'abc' is no abcissa": "https://***@h/x: '***' is no abcissa",
    "https://h/x?sig=SECRETPW&v=1: SECRETPW has expired": "https://h/x?***: *** has expired",
    "https://h/x; run again with b@c": "https://h/x; run again with b@c",
    "'http://h:8080', \"a@b\"": "'http://h:8080', \"a@b\"",
    "https://h/x: a: b@c": "https://h/x: a: b@c",
}


@pytest.mark.parametrize(("text", "shown"), REPEATED.items())
def test_secrets_that_a_library_repeats_are_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown == without_secrets(shown)
    assert InputError(*text.split(": ", 1)).lines == shown.split(": ", 1)


@pytest.mark.parametrize("command", [["inspect"], ["verify"], ["fetch-views"]])
def test_secrets_stay_out_of_the_errors_of_commands(command: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, [*command, "nosuchprotocol://key:secret@bucket/x.zarr?sig=secret"])
    assert done.exit_code == 2 and done.output.startswith("error: nosuchprotocol://***@bucket/x.zarr?***")
    assert "secret" not in done.output and "key" not in done.output
    done = CliRunner().invoke(cli.app, [*command, "s3://AKIA:SECRETPW@bucket/x.zarr"])
    assert done.exit_code == 2 and "SECRETPW" not in done.output  # botocore repeats the login in its errors


def test_an_error_is_one_line_without_control_characters(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["prepare", "--params", str(tmp_path / "a\x1b[2J\n\x9b.yaml")])
    assert done.exit_code == 2
    assert (
        done.output
        == f"error: {tmp_path}/a\\x1b[2J\\n\\x9b.yaml: no such file; run in the project's root or name one with --params\n"
    )


def test_an_error_is_short(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["prepare", "--params", f"{tmp_path}/{'x/' * 5000}y.yaml"])
    assert done.exit_code == 2 and len(done.output) < 2100
    assert "y.yaml: File name too long; " in done.output and " ... " in done.output


@pytest.mark.parametrize("text", ["[/red]", "[bold]x[/bold]", ":smile:", "\x1b[31mred", "\x9b2J", "a\rb", "\u202ea"])
def test_every_way_to_print_shows_text_as_it_is(text: str) -> None:
    out = io.StringIO()
    console = TextConsole(file=out, width=100)
    console.print(text)
    table = Table(text)
    table.add_row(text)
    console.print(table)
    with Progress(*_console.progress().columns, console=console, disable=False) as bar:
        bar.add_task(text, total=1, note=text)
    shown = [line for line in out.getvalue().split("\n") if line]
    assert all(one.isprintable() for line in shown for one in line)
    if text.isprintable():
        assert sum(text in line for line in shown) >= 4, shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["methods"], ["prepare", "--params", "bée-\u4e16\u754c.yaml"], ["schema"]]
)
def test_a_terminal_that_lacks_characters_loses_no_report(
    arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["prepkd", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    monkeypatch.undo()
    for stream in streams.values():
        stream.flush()
    said = b"".join(stream.buffer.getvalue() for stream in streams.values())  # type: ignore[attr-defined]
    assert ended.value.code == (2 if arguments[0] == "prepare" else 0)
    if arguments[0] == "prepare":
        start = {"ascii": b"error: b\\xe9e-\\u4e16\\u754c.yaml"}.get(encoding, b"error: b\xe9e-\\u4e16\\u754c.yaml")
        assert said.startswith(start)
    assert len(said) > 90


def test_an_error_is_one_line_and_never_empty() -> None:
    assert one_line(ValueError(" two\n  lines ")) == one_line("two\tlines") == "two lines"
    assert one_line(ValueError("a long text"), 6) == "a long"
    assert one_line(MemoryError()) == one_line(MemoryError(), 6) == "MemoryError"
