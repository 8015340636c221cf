"""The destination of a store that a command writes, with a progress bar of its chunks."""

import contextlib
from collections.abc import Iterator

from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import progress, say
from prepkd.stages._options import may_replace
from prepkd.stages._progress import StoreProgress
from prepkd.store.destination import Destination, RemainingWork


@contextlib.contextmanager
def destination(url: str, title: str, *, replace: bool) -> Iterator[Destination]:
    """Yield a store's destination; a bar with this title shows the chunks as they are written."""
    with progress() as bar:
        shown = StoreProgress(bar, title)

        def start(work: RemainingWork) -> None:
            say(work.describe())
            if work.warning:
                say(f"warning: {work.warning}")
            shown.start(work.chunks, work.pending, work.layout.bytes)

        yield Destination(url, scratch_root(), say, may_replace(replace), start, shown.chunk)
