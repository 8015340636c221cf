"""Progress of training and of writing stores: a bar on a terminal, lines elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prepkd.display.progress import Pace, Speed
from prepkd.display.text import clock, fitting_parts, size
from prepkd.stages._console import console, say
from prepkd.training.checkpoints import Row
from prepkd.training.progress import BatchProgress
from rich.progress import Progress

BESIDE = 7  # columns of the percentage, beside the bar's title and note
OFTEN, RARELY = 0.5, 30.0  # seconds between updates of the bar, and between lines without a terminal


def pace() -> Pace:
    """Return the pace of progress reports: frequent on a terminal, rare in a log."""
    return Pace(OFTEN if console.is_terminal else RARELY)


class TrainingProgress:
    """Shows one or several trainings of `epochs` epochs each, one after the other.

    On a terminal the bar has the epoch, the time left, the loss so far, the last top-1 and samples per second. Elsewhere
    these are printed as one line per epoch, and in long epochs one every 30 s.
    """

    def __init__(self, bar: Progress, title: str, seeds: Sequence[int], epochs: int) -> None:
        self.bar, self.title, self.seeds, self.epochs = bar, title, list(seeds), epochs
        self.task = bar.add_task(title, total=max(1, len(self.seeds) * epochs), note="reading the data")
        self.pace, self.top1 = pace(), ""
        self.now: tuple[int, int] | None = None  # seed and epoch of the last batch
        self.resumed: tuple[int, int] | None = None  # a seed, and the number of its epochs from an earlier run
        self.speed: Speed | None = None
        self.count = 0

    def start(self, line: str) -> None:
        """Print the line that describes the training, after all checks."""
        say(line)
        self.bar.update(self.task, note="starting")

    def started(self, line: str, check: Callable[[Mapping[str, Any]], None] | None = None) -> Callable[..., None]:
        """Return a callback that checks the training's inputs and then prints the line."""

        def on_inputs(inputs: Mapping[str, Any]) -> None:
            if check:
                check(inputs)
            self.start(line)

        return on_inputs

    def step(self, seed: int, tick: BatchProgress) -> None:
        """Report a batch. The loss is read only if it is shown: on a GPU reading it waits for the batch."""
        if self.resumed and self.resumed[0] == seed:
            say(f"{self.title}: {self._which(seed)}continues after epoch {self.resumed[1]}/{self.epochs}")
        self.now, self.resumed = (seed, tick.epoch), None
        if self.speed is None:  # the first batch includes compilation and reading, so the speed is measured after it
            self.count = tick.count
            self.speed = Speed(len(self.seeds) * self.epochs * tick.count)
            self.speed.at(self._before(seed, tick.epoch) * tick.count + tick.done)
        if not self.pace.due():
            return
        done = self._before(seed, tick.epoch) + tick.done / tick.count
        parts = [f"loss {tick.loss():.3f}", *([self.top1] if self.top1 else [])]
        if rate := self.speed.at(done * tick.count):
            parts = [f"{clock(rate[1])} left", *parts, f"{rate[0]:,.0f} samples/s"]
        if console.is_terminal:
            note = fitting_parts([self._place(seed, tick.epoch), *parts], console.width - len(self.title) - BESIDE)
            self.bar.update(self.task, completed=done, note=note)
        else:
            self._line(seed, tick.epoch, [f"{tick.done / tick.count:.0%} of it", *parts])

    def epoch(self, seed: int, row: Row) -> None:
        """Report an epoch. An epoch without batches comes from an earlier run; its seed gets one line."""
        shown = [f"{name} {row[f'{name}/top1']:.1%}" for name in ("test", "val") if f"{name}/top1" in row]
        self.top1 = shown[0] if shown else self.top1
        parts = [f"loss {row['train/loss']:.3f}", f"train {row['train/top1']:.1%}", *shown]
        done = self._before(seed, int(row["epoch"])) + 1
        if self.now != (seed, int(row["epoch"])):
            self.resumed = seed, int(row["epoch"]) + 1
            if self.resumed[1] == self.epochs:
                say(f"{self.title}: {self._which(seed)}was finished before")
        elif console.is_terminal:
            note = fitting_parts(
                [self._place(seed, int(row["epoch"])), *parts], console.width - len(self.title) - BESIDE
            )
            self.bar.update(self.task, note=note)
        else:
            rate = self.speed.at(done * self.count) if self.speed else None
            left = [f"{clock(rate[1])} left"] if rate else []
            self._line(seed, int(row["epoch"]), [*parts, f"{row['samples_per_second']:,.0f} samples/s", *left])
            self.pace.shown()
        self.bar.update(self.task, completed=done)

    def _before(self, seed: int, epoch: int) -> int:
        """Return the number of epochs before this one, over all seeds."""
        return self.seeds.index(seed) * self.epochs + epoch

    def _place(self, seed: int, epoch: int) -> str:
        return f"{self._which(seed)}{'epoch ' if console.width >= 80 else ''}{epoch + 1}/{self.epochs}"

    def _line(self, seed: int, epoch: int, parts: list[str]) -> None:
        say(f"{self.title}: {self._which(seed)}epoch {epoch + 1}/{self.epochs}, {', '.join(parts)}")

    def _which(self, seed: int) -> str:
        return f"seed {seed}, " if len(self.seeds) > 1 else ""


class StoreProgress:
    """Shows the chunks of a store as they are written: bytes, bytes per second, time left."""

    def __init__(self, bar: Progress, title: str) -> None:
        self.bar, self.title = bar, title
        self.task = bar.add_task(title, start=False, total=None, visible=False, note="")
        self.done, self.chunks, self.bytes = 0, 1, 0
        self.pace, self.speed = pace(), Speed(0)

    def start(self, chunks: int, pending: int, count: int) -> None:
        """Start the bar for a store of `chunks` chunks, `pending` of them unwritten, and `count` bytes."""
        self.chunks, self.bytes, self.done = chunks, count, chunks - pending
        self.speed = Speed(chunks)
        self.speed.at(self.done)
        self.bar.update(self.task, total=chunks, completed=self.done, visible=True)
        self.bar.start_task(self.task)

    def chunk(self) -> None:
        """Report a written chunk."""
        self.done += 1
        fifth = 5 * self.done // self.chunks > 5 * (self.done - 1) // self.chunks
        parts = [f"{size(self.done * self.bytes / self.chunks)} of {size(self.bytes)}"]
        if rate := self.speed.at(self.done):
            parts += [f"{size(rate[0] * self.bytes / self.chunks)}/s", f"{clock(rate[1])} left"]
        if console.is_terminal:
            note = fitting_parts(parts, console.width - len(self.title) - BESIDE)
            self.bar.update(self.task, completed=self.done, note=note)
        elif fifth or self.pace.due():
            self.pace.shown()
            say(f"{self.title}: {self.done}/{self.chunks} chunks, {', '.join(parts)}")
