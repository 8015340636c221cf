"""A terminal that prints plain text only: no markup, no control sequences, no secrets of URLs."""

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from prepkd.display.text import printable
from prepkd.errors import without_secrets


class TextConsole(Console):
    """A rich console for untrusted names and messages: tables and texts are laid out, but their content is not interpreted."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print tables and texts; secrets of URLs in strings become `***`."""
        super().print(*(without_secrets(one) if isinstance(one, str) else one for one in objects), **options)

    def on_broken_pipe(self) -> None:
        """Stop printing once the reader has closed the pipe, as in `prepkd methods | head`; the command continues."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # buffered text would fail again at exit

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Lay out, and escape control characters; line breaks are rich's own."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text="\n".join(map(printable, segment.text.split("\n"))))
