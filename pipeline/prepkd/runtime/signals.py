"""Handle termination signals like Ctrl-C: finished work is kept."""

import os
import select
import signal
from types import FrameType

# Ctrl-C; `kill`, or a batch system's time limit; a closing terminal; a batch system's warning (Slurm's --signal=USR1).
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """Raised when the signal `number` asks the process to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def interrupt_on_signals() -> None:
    """Raise Interrupted in the main thread at each signal of `ENDING`.

    An ignored SIGINT, as in a script's background jobs, is handled too: if it is sent, it still ends the process. An ignored
    SIGHUP stays ignored: `nohup` asks for that.
    """
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A closing terminal sends SIGHUP twice, a batch system SIGTERM after SIGUSR1: the process is already ending.
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once
    _silence_closed_streams()
    raise Interrupted(number)


def _silence_closed_streams() -> None:
    """Redirect standard output and error to /dev/null if their terminal or pipe is closed: an error there would stop saving."""
    for stream in (1, 2):
        poll = select.poll()
        poll.register(stream, 0)
        if poll.poll(0):  # with no event requested, only a hang-up or an error is reported
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
