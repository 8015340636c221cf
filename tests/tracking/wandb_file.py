"""Read a run's `.wandb` file: a LevelDB log of protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records in order; a record may come in several fragments, and no fragment's header crosses a block."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data.startswith(b":W&B")
    place, whole = HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def read(path: Path) -> dict[str, Any]:
    """Return the run's settings, its rows in order, its exit code, its project, name and id."""
    found: dict[str, Any] = {"settings": {}, "rows": [], "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "config":
            found["settings"] |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
        elif kind == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            found["rows"].append({key: json.loads(value) for key, value in items.items()})
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
        elif kind == "run":
            found |= {"project": record.run.project, "name": record.run.display_name, "id": record.run.run_id}
    return found
