"""A limit on a process's private memory, far below the size of its data.

The limit (RLIMIT_DATA) applies to private memory reserved after the limit is set. Pages of mapped files do not count, because
the system can drop them.
"""

import resource
from pathlib import Path

MB = 1_000_000


def limit(size: int) -> int:
    """Allow `size` bytes beyond the memory reserved now; returns the bytes held now."""
    most = private("VmData") + size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return private("RssAnon")


def private(field: str) -> int:
    """Bytes of this process's private memory: reserved (VmData) or held (RssAnon)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")))
