"""Settings files that are missing or malformed, and paths in settings."""

from pathlib import Path

import pytest
from prepkd.project.params import load_params
from small_params import SMALL, error


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    assert error(path) == "no such file; run in the project's root or name one with --params"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", "not YAML: line 2, column 2: expected ',' or ']', but got ':'"),
        ("a: 1\n\tb: 2\n", "not YAML: line 2, column 1: "),
        ("a: 1\na: 2\n", 'not YAML: line 2, column 1: found duplicate key "a"'),
        ("", "expected sections with settings, found NoneType"),
        ("- a\n- b\n", "expected sections with settings, found list"),
        ("just words\n", "expected sections with settings, found str"),
        ("1: 2\n" + SMALL, "unknown key 1; allowed: augment, augment_strong, "),
        (SMALL.replace("cache: {views: all}\n", ""), "cache is missing; expected a value"),
        (SMALL.replace("views: all", ""), "cache.views is missing; expected a value"),
    ],
)
def test_a_bad_file_is_explained(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert error(file).startswith(message)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\xd8", b"\x00\x01\x02", b"a: \x93\n"])
def test_a_file_that_is_no_text_is_explained(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert error(file).startswith("not YAML: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cache.root", '""', "cache.root is '': expected a path"),
        ("cache.root", "/", "cache.root is '/': expected a folder or a URL, not the root of the file system"),
        ("cache.root", "../logits", "cache.root is '../logits': a queued experiment runs in another folder; expected"),
        ("cache.root", "data/../../logits", "a queued experiment runs in another folder"),
        (
            "cache.root",
            "~/logits",
            "cache.root is '~/logits': ~ would be a folder of that name; write the home folder's",
        ),
        ("cache.root", r'"a\0b"', "expected a path without control characters"),
        ("prepare.raw", '""', "prepare.raw is '': expected a path"),
        ("prepare.raw", "~/raw", "~ would be a folder of that name"),
        ("teachers.large.weights", r'"a\nb"', "expected a path without control characters"),
    ],
)
def test_a_path_that_would_lead_elsewhere_is_refused(file: Path, key: str, value: str, message: str) -> None:
    assert message in error(file, f"{key}={value}")


@pytest.mark.parametrize("root", ["/mnt/logits", "s3://bucket/a/../b", "logits", "data/my logits", "data/..logits"])
def test_folders_anywhere_are_accepted(file: Path, root: str) -> None:
    assert load_params(file, [f"cache.root={root}", "prepare.raw=../raw"]).cache.root == root
