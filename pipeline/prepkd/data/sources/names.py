"""Names of files, folders and classes: skip hidden ones, and detect names that look equal."""

import os
import unicodedata

# Names without a dot at the start, in lower case. Windows, macOS, Linux; Synology's @eaDir, QNAP's @Recycle and their like.
_SYSTEM = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden (a dot at the start) or belongs to an operating system; data folders skip these.

    >>> [is_hidden(name) for name in (".ipynb_checkpoints", "@eaDir", "Thumbs.db", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.casefold() in _SYSTEM


def utf8(name: str) -> str:
    """A file's name as UTF-8 text, in any locale; raises UnicodeDecodeError."""
    return os.fsencode(name).decode()


def nfc_name(name: str) -> str:
    """A name in Unicode normal form C, which makes names that look equal equal."""
    return unicodedata.normalize("NFC", name)


def name_difference(name: str, other: str) -> str:
    """Describe how two class names that look equal differ."""
    here, there = (
        next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, one)), "mixed")
        for one in (name, other)
    )
    return f"{name} differs from class {other} in its Unicode normal form only ({here} here, {there} there)"
