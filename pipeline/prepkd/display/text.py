"""Make untrusted text safe to show on a terminal, in a page or in a spreadsheet."""

import re
from collections.abc import Sequence

# Joiners: words of some languages need them, and they change nothing outside their word.
_KEPT = "\u200c\u200d"
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    r"""Escape all characters that a terminal interprets or cannot show: control characters, line breaks, surrogates.

    >>> printable("bée \x1b[2J\n\u202etxt")
    'bée \\x1b[2J\\n\\u202etxt'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _KEPT else repr(one)[1:-1] for one in text)


def csv_cell(text: str) -> str:
    r"""Escape text for a CSV cell, so that it is neither a spreadsheet's formula nor markup in the page of `dvc plots`.

    DVC puts cells into a script element unescaped, hence `<` before a letter, `/`, `!` or `?` is escaped. A cell that a
    spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV Injection).

    >>> csv_cell("</script>"), csv_cell("=1+1"), csv_cell("a < b"), csv_cell("a-b")
    ('\\x3c/script>', "'=1+1", 'a < b', 'a-b')
    """
    safe = re.sub(r"<(?=[A-Za-z/!?])", r"\\x3c", printable(text))
    return f"'{safe}" if safe.lstrip().startswith(("=", "+", "-", "@")) else safe


def size(count: float) -> str:
    """Format bytes in decimal units, three digits.

    >>> size(1_234_567), size(950), size(29_600_000_000)
    ('1.23 MB', '950 bytes', '29.6 GB')
    """
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {UNITS[0]}" if not power else f"{count:,.{max(0, 3 - len(str(int(count))))}f} {UNITS[power]}"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun, whose plural ends in s.

    >>> counted(1, "epoch"), counted(0, "epoch"), counted(1200, "image")
    ('1 epoch', '0 epochs', '1,200 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, with hours if needed.

    >>> clock(7), clock(83.6), clock(3600 * 26 + 61)
    ('0:07', '1:23', '26:01:01')
    """
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fitting_parts(parts: Sequence[str], width: int) -> str:
    """Join as many of the first parts by commas as fit into a width; at least one.

    >>> fitting_parts(["epoch 3/30", "loss 1.23", "1,234 samples/s"], 24)
    'epoch 3/30, loss 1.23'
    """
    shown = parts[0] if parts else ""
    for part in parts[1:]:
        if len(shown) + 2 + len(part) > width:
            break
        shown += f", {part}"
    return shown
