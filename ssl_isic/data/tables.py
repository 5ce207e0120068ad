"""Metadata tables: a CSV with one row an image, keyed by `isic_id`. Rows are counted as a spreadsheet shows them."""

import csv
import difflib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.errors import InputError

NO_GROUPS = "none"
_FIRST_ROW = 2  # under the header, which a spreadsheet calls row 1


class Match(NamedTuple):
    """Where a table's ids are in a store: positions (or -1), ids not there, and how many of the store's are unused."""

    rows: NDArray[np.intp]
    missing: list[str]
    surplus: int


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV that must have `isic_id` and `columns`; every `..._id` stays text, so that 007 is not 7.

    Raises:
        InputError: no such file; not a CSV; no rows; a column that is not there; an empty or repeated `isic_id`.
    """
    header = read_header(path)
    for column in ("isic_id", *columns):
        require_column(header, column, path)
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys([name for name in header if name.endswith("_id")], str),
            encoding="utf-8-sig",
            low_memory=False,  # a column's type is decided by all of it, not chunk by chunk
            skip_blank_lines=False,  # or rows would not be a spreadsheet's
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV: {str(error).strip()}; save it again as comma-separated UTF-8") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{path}: the rows have more fields than the header; name every column in row 1")
    while len(table) and table.iloc[-1].isna().all():
        table = table.iloc[:-1]
    _check_ids(table, path)
    return table


def require_column(header: Sequence[str], column: str, path: Path) -> None:
    """Raise an InputError that names the nearest column, and all there are, unless `column` is in `header`."""
    if column in header:
        return
    near = difflib.get_close_matches(column, header, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"{path} has no column {column}; {hint}It has: {', '.join(header)}")


def read_target(table: pd.DataFrame, column: str, path: Path, *, both: bool = False) -> NDArray[np.float64]:
    """The labels in `column` as 0.0 and 1.0, (rows,); `both` says that there have to be some of each.

    Raises:
        InputError: no such column; a value that is not 0 or 1, or none at all; with `both`, one class only.
    """
    require_column(list(table.columns), column, path)
    target = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    broken = np.flatnonzero((target != 0) & (target != 1))
    if broken.size:
        value, row = table[column].iloc[broken[0]], row_number(table, broken[0])
        raise InputError(f"{path}: {column} must be 0 or 1, got {value} in row {row} ({broken.size} such rows)")
    if both and target.size and target.min() == target.max():
        raise InputError(
            f"{path}: {column} is {target[0]:.0f} in all {len(target)} rows; name the column that tells malignant from benign, "
            "or give a table with both"
        )
    return target


def read_texts(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.str_]:
    """The values of `column` (rows,) as text, "" where there is none; `column` "none" is that of the ids.

    Raises:
        InputError: no such column.
    """
    if column == NO_GROUPS:
        column = "isic_id"
    try:
        require_column(list(table.columns), column, path)
    except InputError as error:
        raise InputError(f"{error}. Name the column that keeps a patient together, or {NO_GROUPS}") from None
    values = table[column].astype(object).where(table[column].notna(), "")
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)


def read_groups(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.str_]:
    """The group (patient, lesion, clinic) of each row, (rows,); `column` "none" makes each row its own group.

    Raises:
        InputError: no such column; a row without a group.
    """
    groups = read_texts(table, column, path)
    empty = np.flatnonzero(groups == "")
    if empty.size:
        row = row_number(table, empty[0])
        raise InputError(
            f"{path}: {column} is empty in row {row} ({empty.size} such rows); fill it in or drop the rows"
        )
    return groups


def row_number(table: pd.DataFrame, position: int | np.intp) -> int:
    """The spreadsheet row of the row at `position`, also where rows of the table were dropped since it was read."""
    return int(table.index[int(position)]) + _FIRST_ROW


def match_ids(table_ids: Iterable[str], store_ids: NDArray[np.bytes_]) -> Match:
    """Find each of `table_ids` in `store_ids`, which are sorted, unique and UTF-8: a position or -1 each.

    Raises:
        ValueError: `store_ids` is not sorted or repeats an id.
    """
    if np.any(store_ids[1:] <= store_ids[:-1]):
        raise ValueError("store_ids must be sorted and unique")
    wanted = encode_ids(table_ids)
    if not store_ids.size:
        return Match(np.full(wanted.size, -1, dtype=np.intp), [i.decode() for i in wanted.tolist()], 0)
    rows = np.minimum(np.searchsorted(store_ids, wanted), store_ids.size - 1)
    rows = np.where(store_ids[rows] == wanted, rows, -1)
    used = np.zeros(store_ids.size, dtype=bool)
    used[rows[rows >= 0]] = True
    missing = [identifier.decode() for identifier in wanted[rows < 0].tolist()]
    return Match(rows, missing, int(np.count_nonzero(~used)))


def rows_hash(*columns: Iterable[Any]) -> str:
    """How many rows the columns (N,) have, and a hash of them in their order."""
    rows = ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return f"{len(rows)} rows, sha256 {digest}"


def encode_ids(ids: Iterable[str]) -> NDArray[np.bytes_]:
    """Ids as UTF-8 in a fixed-width array, a quarter of the size of numpy's text."""
    return np.array([identifier.encode() for identifier in ids], dtype=np.bytes_)


def read_header(path: Path) -> list[str]:
    """The names of the columns. InputError when there is no file, no CSV or nothing in it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV: {error}; give the metadata table") from None
    if not header:
        raise InputError(f"{path} is empty, or its first line is; the first line of a table names its columns")
    repeated = next((name for name in header if name and header.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"{path} has two columns {repeated}; name one of them otherwise, or take it out")
    return header


def _check_ids(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise InputError(f"{path} has a header and no rows; check how it was made")
    ids = table["isic_id"]
    empty = np.flatnonzero(ids.isna())
    if empty.size:
        row = row_number(table, empty[0])
        raise InputError(f"{path}: isic_id is empty in row {row} ({empty.size} such rows); fill it in or drop the rows")
    repeated = np.flatnonzero(ids.duplicated())
    if repeated.size:
        again = ids.iloc[repeated[0]]
        first, second = (row_number(table, at) for at in np.flatnonzero(ids == again)[:2])
        count = f"{repeated.size} repeated" if repeated.size > 1 else "the only one"
        raise InputError(f"{path}: isic_id {again} is in rows {first} and {second} ({count}); keep one row an image")
