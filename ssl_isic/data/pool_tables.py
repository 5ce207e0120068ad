"""What tables say of a pool's images: one CSV a source, read once, of which only the columns that are asked for stay."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.groups import Texts
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids, read_table, row_number
from ssl_isic.errors import InputError


class PoolTables:
    """The tables `paths` of the sources of `pool`, and of each the `columns` that it has.

    Raises:
        InputError: a table of a source that is not in the pool, or of none of its images.
    """

    def __init__(self, pool: ImagePool, paths: Mapping[str, Path], columns: Sequence[str]) -> None:
        unknown = sorted(paths.keys() - set(pool.names))
        if unknown:
            raise InputError(
                f"data.tables.{unknown[0]}: there is no such source; data.sources has {', '.join(pool.names)}"
            )
        self._images, self._paths = len(pool), paths
        self.hashes: dict[str, str] = {}
        """For each source that has a table, a hash of the columns of it, whatever the order of its rows."""
        self._tables: dict[str, pd.DataFrame] = {}
        self._rows: dict[str, NDArray[np.intp]] = {}
        for source, path in paths.items():
            table = read_table(path)
            there = [name for name in dict.fromkeys(columns) if name in table]
            self._rows[source] = _rows_of(pool, source, table, path)
            self.hashes[source] = _hash_of(table[list(dict.fromkeys(["isic_id", *there]))])
            self._tables[source] = table[there].astype("category")  # a tenth of the memory, for as long as the run

    def find(self, column: str) -> Texts | None:
        """The values of `column` for the images of the pool (N,), "" where there is none; None where no table has it."""
        values, found = np.full(self._images, "", dtype=object), False
        for source, table in self._tables.items():
            if column not in table:
                continue
            found, rows = True, self._rows[source]
            has_image = (rows >= 0) & table[column].notna().to_numpy()
            values[rows[has_image]] = table[column].astype(str).to_numpy()[has_image]
        return values.astype(np.str_) if found else None

    def column(self, column: str, key: str) -> Texts:
        """As `find`, of a column that has to be there.

        Raises:
            InputError: no table has it; `key` is the configuration's.
        """
        values = self.find(column)
        if values is None:
            where = ", ".join(str(path) for path in self._paths.values()) or "data.tables, which is empty"
            raise InputError(
                f"{key}={column} is not a column of {where}; name the column, or set data.tables.SOURCE=CSV"
            )
        return values

    def place_of(self, value: str, column: str) -> str:
        """The table and row where `column` first has `value`, for a message."""
        for source, table in self._tables.items():
            rows = np.flatnonzero(table[column].astype(str) == value) if column in table else np.empty(0, np.intp)
            if rows.size:
                return f"{self._paths[source]}, row {row_number(table, rows[0])}"
        raise ValueError(f"no table has {value} in {column}")


def _rows_of(pool: ImagePool, source: str, table: pd.DataFrame, path: Path) -> NDArray[np.intp]:
    """The image in the pool of each row, or -1."""
    start, store_ids = pool.slice_of(source)
    rows = match_ids(table["isic_id"].astype(str), store_ids).rows
    if np.all(rows < 0):
        raise InputError(
            f"{path}: no row is of an image of data.sources.{source}, whose first is {store_ids[0].decode()}; row 2 has "
            f"isic_id {table['isic_id'].iloc[0]}; give that source's table as data.tables.{source}"
        )
    return np.where(rows >= 0, start + rows, -1)


def _hash_of(table: pd.DataFrame) -> str:
    text = table.sort_values("isic_id").to_csv(index=False)
    return f"{len(table)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
