"""Start a command in several processes, as set by `devices`."""

import sys

import torch
import typer
from prepkd.display.text import counted
from prepkd.project.params import Params
from prepkd.runtime.rank import is_launched


def use_devices(params: Params) -> None:
    """Run this command in `devices` processes and exit; return if that is one, or if a launcher started this process."""
    if params.devices == 1 or is_launched():
        return
    # Imported here: the import takes a second, and most runs do not need it.
    from prepkd.runtime.launch import launch, process_count

    if (count := process_count(params.devices)) > 1:
        raise typer.Exit(launch(sys.argv[1:], count))


def described_device(device: torch.device) -> str:
    """Describe a device in a line for a person; files have `device_name`."""
    return device.type if device.type != "cpu" else f"cpu, {counted(torch.get_num_threads(), 'thread')}"
