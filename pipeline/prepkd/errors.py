"""The exceptions for input that the user can fix; their messages never contain a secret from a URL."""

import re
from collections.abc import Iterator, Mapping, Set
from urllib.parse import unquote

# `user:password@`, the password up to the last @ (keys of S3 contain slashes), but not `host:port/`; or `user@`. A password
# may hold quotes, and spaces if no @ stands before the first of them.
_PORT = r"\d+(?:[/\s:?#;,)\]]|$|['\"](?!\S*@))"
_LOGIN = re.compile(rf"(?<=://)(?:[^/\s:@]*:(?!\s|{_PORT})(?:\S*@|(?:(?!://|: )[^\n@])*@)|[^/\s@]*@)")
# The text after ?, # or ; up to the next space; quotes and brackets at its end belong to the message.
_QUERY = re.compile(r"(://[^\s?#;]*)([?#]|;(?=\w))\S*?(?=['\",:)\]}]*(?:\s|$))")
LONGEST = 200  # characters of a value in a message
LONG = 6  # characters; a shorter password is replaced only where it is a whole word


class InputError(ValueError):
    """Bad input; the message says in one line what was expected, what was found, where, and how to fix it (exit code 2).

    When several faults are reported together, each further argument is one line.
    """

    @property
    def lines(self) -> list[str]:
        """The message and any further faults, without secrets of URLs."""
        texts = [str(line) for line in self.args]
        secrets = _secrets("\n".join(texts))
        return [_replaced(text, secrets) for text in texts]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class UnreachableError(InputError):
    """A place that cannot be reached or read now; what it holds is unknown, so it must not be taken for missing or damaged."""


def refuse_differences(wanted: Mapping[str, tuple[object, object]], where: object, remedy: str) -> None:
    """Compare (found, expected) by field, within mappings by dotted key; raises InputError naming the first that differs."""
    for name, both in wanted.items():
        for field, found, expected in _fields(name, *both):
            if found != expected:
                raise InputError(f"{where}: {field} is {_short(found)}, expected {_short(expected)}; {remedy}")


def _fields(name: str, found: object, expected: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in dict.fromkeys([*expected, *found]):
            yield from _fields(f"{name}.{key}", found.get(key), expected.get(key))
    else:
        yield name, found, expected


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def one_line(error: object, most: int | None = None) -> str:
    """Return the text of an error, or its type's name if it has none, on one line of at most `most` characters.

    >>> one_line("two\n  lines"), one_line(KeyError()), one_line(ValueError("a long text"), 6)
    ('two lines', 'KeyError', 'a long')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def without_secrets(text: str) -> str:
    """Replace logins and queries of URLs, which hold keys, passwords, tokens and signatures, by `***`.

    A secret found in a URL is replaced in the rest of the text too: libraries repeat parts of a URL.

    >>> without_secrets("s3://key:sec/ret@bucket/x.zarr https://host:8080/x?X-Amz-Signature=1&b=2 https://a.org/x@2")
    's3://***@bucket/x.zarr https://host:8080/x?*** https://a.org/x@2'
    >>> without_secrets('s3://key:sec/ret@bucket/x: Invalid bucket name "key:sec/ret@bucket"')
    's3://***@bucket/x: Invalid bucket name "***@bucket"'
    """
    return _replaced(text, _secrets(text))


def json_without_secrets(value: object) -> object:
    """Return the JSON value with the secrets of URLs in all its strings replaced."""
    if isinstance(value, dict):
        return {key: json_without_secrets(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_without_secrets(one) for one in value]
    return without_secrets(value) if isinstance(value, str) else value


def without_login(url: str) -> str:
    """Return the URL unchanged; raises ValueError if it holds secrets, since settings and commands are kept."""
    if without_secrets(url) != url:
        raise ValueError(
            "has a login or a query, where secrets stand, and settings and commands are kept; "
            "give credentials in the environment (docs/how-to/sharing.md)"
        )
    return url


def _secrets(text: str) -> set[str]:
    """The logins, passwords and query values in the URLs of a text, both as written and percent-decoded."""
    if "://" not in text:
        return set()
    found: set[str] = set()
    for login in (one[:-1] for one in _LOGIN.findall(text)):
        found |= {login, login.partition(":")[2]}
    for query in (one[0][len(one[1]) + 1 :] for one in _QUERY.finditer(_LOGIN.sub("", text))):
        found |= {part for part in (query, *re.split("[&;=]", query)) if len(part) >= LONG}
    return {form for one in found for form in (one, unquote(one)) if form.strip("*")}


def _replaced(text: str, secrets: Set[str]) -> str:
    if "://" in text:
        text = _QUERY.sub(r"\1\2***", _LOGIN.sub("***@", text))
    for secret in sorted(secrets, key=len, reverse=True):  # a login before its password
        word = re.escape(secret)
        text = re.sub(word if len(secret) >= LONG else rf"(?<!\w){word}(?!\w)", "***", text)
    return text
