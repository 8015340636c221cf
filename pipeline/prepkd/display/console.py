"""A terminal on which everything printed is text: no markup, no control sequence, no secret of a URL."""

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from prepkd.display.text import printable
from prepkd.errors import without_secrets


class TextConsole(Console):
    """A rich console for names and messages from elsewhere: tables and texts are laid out, their content is not interpreted."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print tables and texts; of strings, the secrets of URLs become `***`."""
        super().print(*(without_secrets(one) if isinstance(one, str) else one for one in objects), **options)

    def on_broken_pipe(self) -> None:
        """Print no more once the reader is gone, as in `prepkd methods | head`; the command's work goes on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # what is buffered would fail again at the end

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Lay out, and escape what a terminal would obey; line breaks are rich's own."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text="\n".join(map(printable, segment.text.split("\n"))))
