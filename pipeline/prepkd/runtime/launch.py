"""Start a command in several processes on this machine with torch's elastic launcher, as torchrun does."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from prepkd.errors import InputError
from prepkd.runtime.processors import processors
from prepkd.runtime.signals import Interrupted

SAVING = 600  # seconds for the processes to save their work after a signal


def process_count(devices: int | str) -> int:
    """Return the number of processes for `devices`: with "auto" one per GPU, or one without a GPU.

    Raises InputError if `devices` exceeds the number of GPUs of a machine that has any.
    """
    gpus = torch.cuda.device_count()
    if devices == "auto":
        return max(1, gpus)
    if gpus and int(devices) > gpus:
        raise InputError(f"devices is {devices} and this machine has {gpus} GPUs; expected at most that, or auto")
    return int(devices)


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `prepkd ARGUMENTS` in `count` processes; return 0, or the exit code of the first process that failed.

    On a CPU they share the processors, unless OMP_NUM_THREADS is set. A signal is passed on to them, then raises Interrupted.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes report themselves
    logging.getLogger("torch.distributed.launcher").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="prepkd",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=SAVING,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGUSR1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "prepkd", *arguments)
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
    except SignalException as ended:
        raise Interrupted(signal.Signals(ended.sigval)) from None
    return 0
