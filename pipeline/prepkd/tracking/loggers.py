"""Loggers in addition to DVCLive: TensorBoard, Weights & Biases and MLflow, with lightning-fabric's interface.

Their packages are optional, so each logger imports its own.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepkd.errors import LONGEST, InputError, json_without_secrets, one_line, without_secrets
from prepkd.runtime.outputs import locked

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger
    from mlflow import MlflowClient
    from pydantic import ValidationError

EVENTS = re.compile(r"events\.out\.tfevents\.\d{10}\..+")  # the time, the machine, ...
WANDB_FILES = ("config.yaml", "output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json")
Write = Callable[[dict[str, float]], None]  # takes the figures of one epoch


@dataclass(frozen=True)
class Run:
    """A training run: its name, its settings, and its inputs' fingerprint, which identifies it after an interruption."""

    name: str
    fingerprint: str
    settings: Mapping[str, Any]


# Each function yields an open logger and the number of epochs it already has: a resumed run reports all its epochs again.
# Each raises InputError if its logger refuses to open.


@contextlib.contextmanager
def tensorboard(folder: Path, run: Run) -> "Iterator[tuple[Logger, int]]":
    """Write event files to `tensorboard/NAME/FINGERPRINT`, from the first epoch on."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    logger = TensorBoardLogger(folder / "tensorboard", name=run.name, version=run.fingerprint[:8])
    for old in Path(logger.log_dir).glob("events.out.tfevents.*"):  # other files in the folder may be the user's
        if EVENTS.fullmatch(old.name) and (old.is_file() or old.is_symlink()):
            old.unlink()
    yield logger, 0


@contextlib.contextmanager
def wandb(folder: Path, run: Run) -> "Iterator[tuple[Logger, int]]":
    """Write an offline run to `wandb/` from the first epoch on; with WANDB_MODE online, continue the server's run."""
    import wandb
    from pydantic import ValidationError
    from pytorch_lightning.loggers import WandbLogger

    mode, own = os.environ.get("WANDB_MODE", "offline"), run.fingerprint[:16]
    folder.mkdir(parents=True, exist_ok=True)  # without it W&B uses a temporary folder
    if mode == "offline":
        for old in (folder / "wandb").glob(f"offline-run-*-{own}"):
            remove_run(old, own)
    try:
        experiment = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "prepkd"),
            name=run.name,
            id=own,
            resume="allow",
            dir=folder,
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(console="off", silent=mode == "offline"),
        )
    except (wandb.Error, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        raise refusal("wandb", fault, "correct the variables WANDB_*, unset WANDB_MODE to log offline") from None
    failed = 1
    try:
        yield WandbLogger(experiment=experiment), experiment.step
        failed = 0
    finally:
        experiment.finish(exit_code=failed)


def remove_run(folder: Path, own: str) -> None:
    """Remove W&B's files from the folder of an offline run with this id, then the folder if no other files are in it."""
    if folder.is_symlink():
        return
    names = [f"run-{own}.wandb*", "logs/debug*.log", *(f"files/{name}" for name in WANDB_FILES)]
    for path in [path for name in names for path in folder.glob(name)]:
        if path.is_symlink() or path.is_file():
            path.unlink()
    for place in (*(folder / name for name in ("tmp/code", "tmp", "logs", "files")), folder):
        with contextlib.suppress(OSError):  # missing, or it holds other files
            place.rmdir()


@contextlib.contextmanager
def mlflow(folder: Path, run: Run) -> "Iterator[tuple[Logger, int]]":
    """Write a run to `mlflow.db`, or to MLFLOW_TRACKING_URI; continue an interrupted one."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from pytorch_lightning.loggers import MLFlowLogger

    folder.mkdir(parents=True, exist_ok=True)
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "prepkd")
    try:
        # Two processes that create the database or the experiment at once leave a broken database.
        with locked(place, folder, lambda waiting: None, file="mlflow.db.lock"):
            client = MlflowClient(place)
            experiment = experiment_id(client, name)
            found = client.search_runs([experiment], f"tags.fingerprint = '{run.fingerprint}'", max_results=1)
            own, epochs = None, 0
            if found:
                own = found[0].info.run_id
                epochs = 1 + max((one.step for one in client.get_metric_history(own, "epoch")), default=-1)
                client.update_run(own, status="RUNNING")
            tags = {"fingerprint": run.fingerprint}
            logger = MLFlowLogger(name, run_name=run.name, run_id=own, tracking_uri=place, tags=tags)
            assert logger.run_id  # opens the run, so that its end is recorded even without a new epoch
    except MlflowException as error:
        raise refusal("mlflow", error, "correct MLFLOW_TRACKING_URI") from None
    yield logger, epochs


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The id of an MLflow experiment, created if missing; raises InputError if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # of a server: another machine may have created it
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        restore = f"MLFLOW_TRACKING_URI={client.tracking_uri} mlflow experiments restore -x {found.experiment_id}"
        raise InputError(
            f"logger is mlflow: its experiment {name} was deleted; `{restore}`, or name another: MLFLOW_EXPERIMENT_NAME"
        )
    return str(found.experiment_id)


def first_fault(error: "ValidationError") -> str:
    """The first wrong setting of pydantic's error and the expected value, without the given one, which may be a key."""
    first = error.errors()[0]
    return f"{'.'.join(str(key) for key in first['loc'])}: {first['msg']}"


def refusal(kind: str, fault: object, remedy: str) -> InputError:
    """The error for a logger that cannot be opened; libraries' messages have several lines, and may quote a URL's secrets."""
    reason = one_line(without_secrets(str(fault)), LONGEST)
    return InputError(f"logger is {kind}: {reason}; {remedy}, or logger: null")


LOGGERS: dict[str, Callable[[Path, Run], "AbstractContextManager[tuple[Logger, int]]"]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}


@contextlib.contextmanager
def logged(kind: str | None, folder: Path, run: Run) -> Iterator[Write]:
    """Report a run: its settings once, each epoch's row once, and its end, also on failure. Yields a function that logs a row.

    Raises InputError if the logger's package is not installed, or the logger refuses to open.
    """
    if kind is None:
        yield lambda row: None
        return
    with contextlib.ExitStack() as held:
        try:
            logger, known = held.enter_context(LOGGERS[kind](folder, run))
        except ModuleNotFoundError as error:
            missing = str(error).splitlines()[0]
            raise InputError(f"logger is {kind}: {missing}; `pip install 'prepkd[{kind}]'`, or logger: null") from None

        def write(row: dict[str, float]) -> None:
            if row["epoch"] >= known:
                logger.log_metrics(row, step=int(row["epoch"]))
                logger.save()

        status = "failed"
        try:
            if known == 0:
                logger.log_hyperparams({key: json_without_secrets(value) for key, value in run.settings.items()})
            yield write
            status = "success"
        finally:
            logger.finalize(status)
