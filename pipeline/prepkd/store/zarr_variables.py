"""Zarr's environment variables, ZARR_*, which it takes unchecked: a faulty one makes every store look damaged."""

import os

import numpy as np
import zarr
from zarr.storage import MemoryStore

from prepkd.errors import InputError, one_line
from prepkd.store.attributes import MALFORMED


def refuse_zarr_variables() -> None:
    """Raise InputError, naming the ZARR_* variables, if Zarr can't write and read an array in memory with them."""
    names = sorted(name for name in os.environ if name.startswith("ZARR_"))
    if not names:
        return
    try:
        if zarr.config.get("async.concurrency") == 0:
            raise ValueError("async.concurrency is 0, every read would wait for ever")
        zarr.create_array(MemoryStore(), data=np.zeros(2), chunks=(1,))[...]
    except (*MALFORMED, OSError) as error:
        raise InputError(
            f"{', '.join(names)}: Zarr can't read an array with this environment: {one_line(error)}; unset or correct it"
        ) from None
