"""Text from elsewhere made safe to show: on a terminal, in a page, in a spreadsheet."""

import re

# Joiners: words of some languages need them, and they change nothing outside their word.
_KEPT = "\u200c\u200d"


def printable(text: str) -> str:
    r"""The text with everything that a terminal obeys or cannot show as escapes: control characters, line breaks, surrogates.

    >>> printable("bée \x1b[2J\n\u202etxt")
    'bée \\x1b[2J\\n\\u202etxt'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _KEPT else repr(one)[1:-1] for one in text)


def csv_cell(text: str) -> str:
    r"""The text as a CSV cell that is only text: no formula of a spreadsheet, no markup of the page that `dvc plots` makes.

    DVC puts cells into a script element as they are, hence `<` before a letter, `/`, `!` or `?` is escaped. A cell that a
    spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV Injection).

    >>> csv_cell("</script>"), csv_cell("=1+1"), csv_cell("a < b"), csv_cell("a-b")
    ('\\x3c/script>', "'=1+1", 'a < b', 'a-b')
    """
    safe = re.sub(r"<(?=[A-Za-z/!?])", r"\\x3c", printable(text))
    return f"'{safe}" if safe.lstrip().startswith(("=", "+", "-", "@")) else safe
