"""The place to which a store is written, and the callbacks for progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prepkd.display.text import counted
from prepkd.store.attributes import Attributes
from prepkd.store.layout import Layout


@dataclass(frozen=True)
class RemainingWork:
    """The work that remains when writing starts: the store's place, layout and attributes, pending chunks, estimated seconds.

    `warning` is a warning if the teacher's answers may not be logits.
    """

    url: str
    layout: Layout
    attributes: Attributes
    pending: int
    seconds: float
    warning: str | None = None

    @property
    def chunks(self) -> int:
        """Chunks of the whole store."""
        return self.layout.plan.views * self.layout.chunks

    def describe(self) -> str:
        """Return one line: the time left and, for logits, the store's size and the encoding's error."""
        left = f"about {self.seconds:,.0f} s to go"
        plan, measured = self.layout.plan, self.attributes.measured
        if measured is None:  # features, whose size is printed before
            return f"{self.url}: {left}"
        return (
            f"{counted(plan.views, 'view')} x {plan.samples:,} samples x {self.attributes.dataset.classes} classes: "
            f"{plan.views * plan.samples * measured.bytes_per_row / 1e6:,.1f} MB, "
            f"{measured.bytes_per_row:g} bytes per (view, sample), {self.attributes.encoding.name}, "
            f"KL at tau 4 {measured.kl_mean['4']:.1e}; {left}"
        )


@dataclass(frozen=True)
class Destination:
    """The place of a store (a path or URL), the root folder of unfinished work, and the callbacks for progress.

    With `replace`, a store of other settings is replaced. `on_wait` gets one line when the writer waits for another process,
    `on_start` the remaining work before the first chunk. `on_chunk` is called after each chunk of any process, `on_written`
    after each chunk of this one.
    """

    url: str
    scratch_root: Path
    on_wait: Callable[[str], None]
    replace: bool = False
    on_start: Callable[[RemainingWork], None] = lambda work: None
    on_chunk: Callable[[], None] = lambda: None
    on_written: Callable[[], None] = lambda: None
