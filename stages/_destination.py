"""The place of a store that a command writes, with a progress bar of its chunks."""

import contextlib
from collections.abc import Iterator

from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import advance, progress, say
from prepkd.stages._options import may_replace
from prepkd.store.destination import Destination, Work


@contextlib.contextmanager
def destination(url: str, title: str, *, replace: bool) -> Iterator[Destination]:
    """A store's place; while it is written there, a bar with this title shows the chunks."""
    with progress() as bar:
        task = bar.add_task(title, start=False, total=None, visible=False, note="")

        def start(work: Work) -> None:
            say(work.describe())
            if work.doubt:
                say(f"warning: {work.doubt}")
            bar.update(task, total=work.chunks, completed=work.chunks - work.pending, visible=True)
            bar.start_task(task)

        yield Destination(url, scratch_root(), say, may_replace(replace), start, lambda: advance(bar, task))
