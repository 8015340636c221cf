"""Read tables and logs of results; their size and values are checked, since users may have edited them."""

from io import BytesIO
from pathlib import Path

import pandas as pd

from prepkd.errors import InputError, one_line

MAX_BYTES = 2**26  # bytes
MAX_ROWS = 100_000
LARGEST = 1e300  # of a log: charts multiply by 100, which must not give infinity
NAMES = ("pair", "teacher", "student", "run")


def read_table(path: Path, numbers: tuple[str, ...], command: str) -> pd.DataFrame:
    """Read one of the comparison's tables: names as text, all other columns as numbers; `numbers` and `run` are required.

    Raises InputError for a file that is missing, too large, or malformed; its message names `command`, which writes the table.
    """
    content = read(path, command)
    try:
        table = pd.read_csv(BytesIO(content), dtype=str, keep_default_na=False, nrows=MAX_ROWS)
        texts = [name for name in NAMES if name in table]
        values = {name: pd.to_numeric(table[name].replace("", None)) for name in map(str, table) if name not in texts}
    except (ValueError, OverflowError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no table ({one_line(error, 200)}); run `{command}`") from None
    absent = [name for name in ("run", *numbers) if name not in table]
    if absent or table.empty:
        raise InputError(f"{path}: {f'no column {absent[0]}' if absent else 'no row'}; run `{command}`")
    for name in numbers:
        wrong = values[name][~values[name].between(0, 1e6)]
        if len(wrong):
            raise InputError(f"{path}: {name} is {wrong.iloc[0]}; expected a number of at least 0; run `{command}`")
    return table[texts].assign(**values)


def read_log(path: Path, name: str) -> pd.Series:
    """Read one of DVCLive's logs: a finite figure float64 by epoch int64; raises InputError."""
    content = read(path, "prepkd distill")
    try:
        dtypes = {"step": "int64", name: "float64"}
        found = pd.read_csv(BytesIO(content), sep="\t", dtype=dtypes, nrows=MAX_ROWS).set_index("step")[name]
    except (ValueError, KeyError, OverflowError, TypeError) as error:
        raise InputError(f"{path}: no curve ({one_line(error, 200)}); run `prepkd distill`") from None
    if wrong := found[~found.between(-LARGEST, LARGEST)].tolist():
        raise InputError(f"{path}: damaged: {name} is {wrong[0]}; expected a finite number; run `prepkd distill`")
    if found.empty or found.index.has_duplicates:
        figures = f"{len(found)} in {found.index.nunique()} epochs"
        raise InputError(f"{path}: expected one {name} per epoch, found {figures}; run `prepkd distill`")
    return found


def read(path: Path, command: str) -> bytes:
    """Read a file of bounded size; raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `{command}`")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes; expected at most {MAX_BYTES:,}; run `{command}`")
    return path.read_bytes()
