"""Checkpoints: an interrupted or killed run ends like an unbroken one, and a damaged file is set aside."""

import errno
import hashlib
import io
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preloaded
import pytest
import torch
from commands import ROOT
from prepkd.errors import InputError
from prepkd.models.new import new_model
from prepkd.runtime.files import atomic_file
from prepkd.runtime.machine_faults import REMEDIES, explained
from prepkd.training import checkpoints
from prepkd.training.checkpoints import CHECKSUM, Row, load_state
from small_training import (
    DATASET,
    EPOCHS,
    SCHEDULES,
    cross_entropy,
    fit,
    same,
    settings,
    stop_after,
    timeless,
)
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")


# Every end except a kill keeps the last finished epoch, even if no checkpoint is due.
@pytest.mark.parametrize(
    ("by", "after", "every", "left"),
    [
        (MemoryError, EPOCHS - 2, 1, [3]),
        (MemoryError, EPOCHS - 2, 9, [3]),
        (KeyboardInterrupt, EPOCHS - 2, 9, [3]),
        (InputError, EPOCHS - 1, 9, []),  # as if the connection to a server was lost
        (KeyboardInterrupt, EPOCHS - 1, 9, []),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_interrupted_run_ends_with_the_same_bits(
    schedule: str, precision: str, by: type[BaseException], after: int, every: int, left: list[int], tmp_path: Path
) -> None:
    chosen = settings(**SCHEDULES[schedule], precision=precision, checkpoint_every=every)
    weights, history = fit(tmp_path / "whole.pt", chosen)
    with pytest.raises(by):
        fit(tmp_path / "cut.pt", chosen, on_epoch=stop_after(after, by))
    trained: list[int] = []
    reported: list[Row] = []
    # Another initialisation: all of the state has to come from the checkpoint.
    resumed, rows = fit(
        tmp_path / "cut.pt",
        chosen,
        model=new_model("convnet4", DATASET, 99),
        views_of=lambda epoch: trained.append(epoch) or epoch,  # type: ignore[func-returns-value]
        on_epoch=reported.append,
    )
    assert trained == left
    assert same(resumed, weights)
    assert timeless(rows) == timeless(history) == timeless(reported)
    assert len(rows) == EPOCHS


def test_a_checkpoint_that_the_disk_has_no_room_for_leaves_the_last_one(tmp_path: Path) -> None:
    path, chosen, before = tmp_path / "cut.pt", settings(checkpoint_every=1), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(row: Row) -> None:
        if row["epoch"] == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    try:
        with pytest.raises(OSError) as caught:
            fit(path, chosen, on_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert explained(caught.value) == (
        f"{path}: File too large; finished work is kept: {REMEDIES[errno.EFBIG]}, then run the same command again"
    )
    assert list(tmp_path.iterdir()) == [path]
    trained: list[int] = []
    weights, _ = fit(path, chosen, views_of=lambda epoch: trained.append(epoch) or epoch)  # type: ignore[func-returns-value]
    assert trained == [2, 3] and same(weights, fit(tmp_path / "whole.pt", chosen)[0])


def other_parts(content: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """Return a checkpoint with other parts and a right checksum, such as one of another version of a user's model."""
    state = torch.load(io.BytesIO(content[CHECKSUM:]), weights_only=True)
    changed = io.BytesIO()
    torch.save(change(state), changed)
    return hashlib.sha256(changed.getvalue()).digest() + changed.getvalue()


def flipped(place: float) -> Callable[[bytes], bytes]:
    """Return a function that flips a bit at this fraction of the content."""
    return lambda content: bytes(
        byte ^ 4 if index == int(place * (len(content) - 1)) else byte for index, byte in enumerate(content)
    )


WITHOUT_PART = "holds no objective"


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    **{
        f"cut to {length}": (lambda content, length=length: content[:length], "checksum") for length in (0, 3, 40, 1000)
    },
    **{f"a bit at {place:.0%}": (flipped(place), "checksum") for place in (0, 0.01, 0.2, 0.4, 0.6, 0.8, 0.99, 1)},
    "longer": (lambda content: content + b"more", "checksum"),
    "halves swapped": (lambda content: content[len(content) // 2 :] + content[: len(content) // 2], "checksum"),
    "of a version without checksum": (lambda content: content[CHECKSUM:], "checksum"),
    "without a part": (
        lambda content: other_parts(content, lambda state: {k: v for k, v in state.items() if k != "objective"}),
        WITHOUT_PART,
    ),
    # Loading the optimizer's part fails after the model's part has been loaded.
    "another optimizer": (
        lambda content: other_parts(content, lambda state: state | {"optimizer": {"state": {}, "param_groups": []}}),
        "parameter group",
    ),
    "another model": (
        lambda content: other_parts(content, lambda state: state | {"model": {"fc.weight": torch.ones(3)}}),
        "Missing key",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_training_starts_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, chosen = tmp_path / "cut.pt", settings(ema=0.5, schedule="one-cycle")
    weights, history = fit(path, chosen)
    change, reason = DAMAGES[damage]
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    again, rows = fit(path, chosen)
    assert same(again, weights) and timeless(rows) == timeless(history)
    assert (tmp_path / "cut.pt.damaged").read_bytes() == damaged
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ") and reason in line
    assert line.endswith("; set aside as cut.pt.damaged, and training starts anew") and "\n" not in line
    assert fit(path, chosen)[1] == rows, "the new checkpoint is whole"


@pytest.mark.parametrize("place", ["cut.pt", "cut.pt.damaged"])
def test_a_folder_in_a_checkpoints_place_is_set_aside(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, chosen = tmp_path / "cut.pt", settings()
    path.write_bytes(b"torn")
    (tmp_path / place).unlink(missing_ok=True)
    (tmp_path / place / "inner").mkdir(parents=True)
    fit(path, chosen)
    assert path.is_file() and (tmp_path / "cut.pt.damaged").is_dir() is (place == "cut.pt")
    assert len(caplog.messages) == 1 and "set aside as cut.pt.damaged" in caplog.messages[0]


def killed_run(checkpoint: Path, moment: str) -> None:
    """Train in the subprocess below, which kills itself in a step of epoch 2 or while epoch 2's checkpoint is written."""
    torch.set_num_threads(1)
    calls = 0

    def loss(logits: Tensor, labels: Tensor, *rest: object) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if moment == "step" and calls == 2 * 5 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return cross_entropy(logits, labels)

    written, write_bytes = 0, checkpoints.write_bytes

    def write(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if moment == "save" and written == 3:
            with atomic_file(path) as temporary:
                temporary.write_bytes(content[:1000])
                os.kill(os.getpid(), signal.SIGKILL)
        write_bytes(path, content)

    checkpoints.write_bytes = write
    fit(checkpoint, settings(checkpoint_every=1), loss=loss)


@pytest.mark.parametrize("moment", ["step", "save"])
def test_a_run_killed_by_sigkill_ends_with_the_same_bits(moment: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(ROOT / 'tests')]}\n"
        "from pathlib import Path; from test_checkpoints import killed_run\n"
        f"killed_run(Path({str(tmp_path / 'cut.pt')!r}), {moment!r})"
    )
    command = [preloaded.commands() / "python", "-c", code]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert len(load_state(tmp_path / "cut.pt", {})) == 2
    weights, history = fit(tmp_path / "whole.pt", settings(checkpoint_every=1))
    resumed, rows = fit(tmp_path / "cut.pt", settings(checkpoint_every=1))
    assert same(resumed, weights)
    assert timeless(rows) == timeless(history)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    weights, history = fit(tmp_path / "run.pt", settings(checkpoint_every=3))
    before = (tmp_path / "run.pt").stat()
    reported: list[Row] = []

    def views_of(epoch: int) -> int:
        raise AssertionError(f"epoch {epoch} is trained again")

    again, rows = fit(
        tmp_path / "run.pt",
        settings(checkpoint_every=3),
        model=new_model("convnet4", DATASET, 99),
        views_of=views_of,
        on_epoch=reported.append,
    )
    assert same(again, weights)
    assert rows == history == reported  # including the same seconds
    after = (tmp_path / "run.pt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
