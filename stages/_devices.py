"""Commands in several processes, as `devices` asks."""

import sys

import typer
from prepkd.project.params import Params
from prepkd.runtime.launched import is_launched


def use_devices(params: Params) -> None:
    """Run this command in as many processes as `devices` says, and exit; where it says 1, or a launcher runs this, go on."""
    if params.devices == 1 or is_launched():
        return
    # Imported here: it takes a second, for those who use it.
    from prepkd.runtime.launch import launch, process_count

    if (count := process_count(params.devices)) > 1:
        raise typer.Exit(launch(sys.argv[1:], count))
