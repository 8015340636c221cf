"""Settings as hostile text: a value that is not plain is refused in one line, with memory and time bounded by its size."""

from pathlib import Path

import pytest
from commands import ROOT
from prepkd.errors import InputError
from prepkd.project.params import load_params
from prepkd.runtime.devices import MAX_THREADS, device_like
from prepkd.settings.yaml import MAX_BYTES, MAX_DEPTH, parse_yaml

PLAIN = "expected text (in quotes), a number, true, false or null"
NESTED = f"{MAX_DEPTH} collections within each other"
LAUGHS = "\n".join(["a0: &a0 [x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))])
MERGES = "\n".join(["m0: &m0 {a: 1}", *(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}], k{i}: 1}}" for i in range(1, 30))])
COPIES = "\n".join(
    [f"a: &a {{{', '.join(f'k{i}: 1' for i in range(500))}}}", *(f"b{i}: {{<<: *a}}" for i in range(300))]
)
HOSTILE = {
    "!!python/object:os.system x": "could not determine a constructor for the tag",
    "a: !!python/name:os.system": "could not determine a constructor for the tag",
    "!mine x": "could not determine a constructor for the tag '!mine'",
    "a: {b: 2001-01-01}": f"a.b is of type date; {PLAIN}",
    "2001-13-45": "not YAML: month must be in 1..12",
    "a: 2001-01-01T25:00:00Z": "not YAML: hour must be in 0..23",
    "!!timestamp foo": "not YAML: line 1, column 1: failed to construct timestamp",
    "!!binary '?'": f"is of type bytes; {PLAIN}",
    "!!set {a, b}": f"is of type set; {PLAIN}",
    "!!int abc": "not YAML: invalid literal for int()",
    "!!float x": "not YAML: could not convert string to float",
    "!!bool maybe": "not YAML: 'maybe'",
    "9" * 5000: "not YAML: Exceeds the limit",
    "[0x" + "f" * 5000 + "]": "0 is a number of more than 64 bits; expected a smaller one",
    str(2**64): "is a number of more than 64 bits",
    "&a [*a]": NESTED,
    "&a {b: *a}": NESTED,
    "[" * 1000: f"not YAML: more than {NESTED}",
    "[" * 40 + "]" * 40: NESTED,
    "a: {0x" + "f" * 500 + ": 2}": "a has a key of more than 64 bits; expected text",
    "{[1]: 2}": "(1,) is a key of type tuple; expected text",
    "{2001-01-01: 2}": "datetime.date(2001, 1, 1) is a key of type date; expected text",
    "a: 1\na: 2": 'found duplicate key "a"',
    "\0": "unacceptable character #x0000",
    "*x": "found undefined alias 'x'",
    "--- 1\n--- 2": "but found another document",
    LAUGHS: "more than 100,000 values",
    MERGES: "a merge key (<<) with a list; name one mapping",
    COPIES: "too many merge keys (<<)",
    "x" * (MAX_BYTES + 1): f"{MAX_BYTES + 1:,} bytes of settings; expected at most {MAX_BYTES:,}",
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.items(), ids=[message[:50] for message in HOSTILE.values()])
def test_what_is_no_plain_value_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "where")
    assert str(caught.value).startswith("where: ") and message in str(caught.value)
    (tmp_path / "params.yaml").write_text(text)
    for path, overrides in ((tmp_path / "params.yaml", []), (ROOT / "params.yaml", [f"distill.kd={text}"])):
        with pytest.raises(InputError) as caught:
            load_params(path, overrides)
        assert len(caught.value.lines) == 1 and "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_plain_yaml_stays_what_it_is() -> None:
    text = "a: &x {k: 1, l: [yes, 1e-5, 0o17, null, ~, 'q', 18446744073709551615]}\nb: {<<: *x, k: 2}\nc: [*x, *x]"
    inner = {"k": 1, "l": ["yes", 1e-5, 15, None, None, "q", 2**64 - 1]}
    assert parse_yaml(text, "where") == {"a": inner, "b": inner | {"k": 2}, "c": [inner, inner]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (f"threads={MAX_THREADS + 1}", f"threads is {MAX_THREADS + 1}; expected <= {MAX_THREADS}"),
        (f"threads={2**63}", f"threads is {2**63}; expected <= {MAX_THREADS}"),
        ("threads=0", "threads is 0; expected >= 1"),
        ('prepare.raw="a\\0b"', "expected a path without control characters"),
        ("cache.root=s3://AKIA1:se/cret@bucket/x", "cache.root is 's3://***@bucket/x': has a login or a query"),
        ("cache.root=https://host/x?token=secret", "cache.root is 'https://host/x?***': has a login or a query"),
    ],
)
def test_values_are_bounded_and_secrets_refused(change: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_params(ROOT / "params.yaml", [change])
    assert message in str(caught.value) and "secret" not in str(caught.value).replace("where secrets stand", "")


@pytest.mark.parametrize("count", [0, MAX_THREADS + 1, 10**12, "9" * 5000])
def test_a_store_cannot_ask_for_too_many_threads(count: object) -> None:
    with pytest.raises(InputError, match=f"expected 1 to {MAX_THREADS} threads"):
        device_like(f"cpu, {count} threads")
