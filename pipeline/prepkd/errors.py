"""The one exception for input that the user can fix; its message holds no secret of a URL."""

import re
from collections.abc import Mapping

# `user:password@`, the password up to the last @ (keys of S3 contain slashes), but not `host:port/`; or `user@`.
_LOGIN = re.compile(r"(?<=://)(?:[^/\s:@'\"]*:(?!\d+(?:/|\s|$))[^\s'\"]*@|[^/\s@'\"]*@)")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")


class InputError(ValueError):
    """Bad input; the message says in one line what was expected, what was found, where, and how to fix it (exit code 2).

    Several faults that are reported together are further arguments, one line each.
    """

    @property
    def lines(self) -> list[str]:
        """The message and further faults, without the secrets of URLs."""
        return [without_secrets(str(line)) for line in self.args]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def refuse_differences(wanted: Mapping[str, tuple[object, object]], where: object, remedy: str) -> None:
    """Compare (found, expected) by field; raises InputError that names the first field that differs."""
    for field, (found, expected) in wanted.items():
        if found != expected:
            raise InputError(f"{where}: {field} is {_short(found)}, expected {_short(expected)}; {remedy}")


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


def without_secrets(text: str) -> str:
    """The text with logins and queries of URLs, where keys, passwords, tokens and signatures stand, as `***`.

    >>> without_secrets("s3://key:sec/ret@bucket/x.zarr https://host:8080/x?X-Amz-Signature=1&b=2 https://a.org/x@2")
    's3://***@bucket/x.zarr https://host:8080/x?*** https://a.org/x@2'
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1?***", _LOGIN.sub("***@", text))
